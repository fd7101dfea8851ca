// The sale, live: by the server's events, or by asking again and again where events are not to be had.
'use strict';

flash.feed = (show) => {
  const { byId, alertIn, ask, clock, live, t } = flash;
  const RESYNC = 300000;
  const POLL = 3000;
  let events = null;
  let polling = null;
  let synced = 0;
  let shown = false;

  const load = async () => {
    const asked = performance.now();
    const answer = await ask('GET', '/v1/sale', { signedIn: false });
    if (answer.status !== 200) return false;
    clock.set(answer.body.now, asked, performance.now());
    synced = performance.now();
    alertIn(byId('notice'), '');
    shown = true;
    show(answer.body);
    return true;
  };

  const follow = () => {
    if (events || document.hidden) return;
    clearTimeout(polling);
    events = new EventSource('/v1/sale/events');
    events.addEventListener('sale', (event) => {
      live('on', t('common.live'));
      if (!shown) alertIn(byId('notice'), '');
      shown = true;
      show(JSON.parse(event.data));
    });
    events.addEventListener('error', () => {
      live('wait', t('sale.reconnecting'));
      if (events?.readyState === EventSource.CLOSED) {
        unfollow();
        poll();
      }
    });
  };

  const unfollow = () => {
    events?.close();
    events = null;
  };

  // Where too many listen, or something in between does not pass events.
  const poll = async () => {
    if (document.hidden) return;
    const well = await load();
    live('wait', t(well ? 'sale.polling' : 'sale.no_connection'));
    polling = setTimeout(() => (Math.random() < 0.2 ? follow() : poll()), POLL * (0.75 + Math.random() / 2));
  };

  const resync = () => {
    if (document.hidden || performance.now() - synced <= RESYNC) return;
    synced = performance.now();
    load();
  };

  document.addEventListener('visibilitychange', () => {
    if (document.hidden) {
      // A browser has six connections for all of its tabs; one that nobody sees needs none.
      unfollow();
      clearTimeout(polling);
    } else {
      load();
      follow();
    }
  });

  return { load, follow, resync };
};
