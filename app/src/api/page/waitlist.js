// Waiting for units of products that come back from unpaid orders.
'use strict';

flash.waitlist = ({ cards, products, tell, refresh, openAccount, logInAgain, showOrders }) => {
  const { say, session, joined, ask, trouble, isTransient, wait, t, number } = flash;
  // By product: the place, and how many waited when it was asked for.
  const places = new Map();
  const path = (id) => `/v1/products/${encodeURIComponent(id)}/waitlist`;
  const buyer = () => session.get()?.id;

  const forget = (id) => {
    places.delete(id);
    joined.set((joined.get() ?? []).filter((it) => it !== id));
  };

  const show = (product, parts, open) => {
    const place = places.get(product.id);
    parts.queue.hidden = !place && !(open && product.remaining <= 0);
    say(parts.queue, place ? t('sale.wait.leave', { position: number(place.position) }) : t('sale.wait.join'));
    // Others were served, came or left: the own place may be another.
    if (place && !place.asking && place.waiting !== product.waiting) askForPlace(product.id, product.waiting);
  };

  const join = async (id, quantity) => {
    const waiter = buyer();
    if (!waiter) return openAccount(t('sale.wait.log_in'));
    const parts = cards.get(id);
    parts.queue.disabled = true;
    const answer = await ask('POST', path(id), { body: { quantity: Number.isInteger(quantity) && quantity > 0 ? quantity : 1 } });
    parts.queue.disabled = false;
    if (buyer() !== waiter) return;
    if (answer.status !== 201) return tell(id, 'bad', trouble(answer));
    places.set(id, answer.body);
    joined.set([...(joined.get() ?? []), id]);
    tell(id, 'wait', t('sale.wait.told'));
    refresh();
  };

  const leave = async (id) => {
    const waiter = buyer();
    // `not_waiting` is no news then.
    places.get(id).leaving = true;
    const answer = await ask('DELETE', path(id));
    if (buyer() !== waiter) return;
    if (answer.status !== 204) return tell(id, 'bad', trouble(answer));
    forget(id);
    tell(id, 'wait', '');
    refresh();
  };

  const askForPlace = async (id, waiting) => {
    const waiter = buyer();
    const place = places.get(id);
    // The buyer left, joined again or logged out.
    const isOver = () => places.get(id) !== place || buyer() !== waiter;
    if (place) place.asking = true;
    // Not all who wait at the same moment.
    if (place) await wait(Math.random() * 1000);
    if (isOver()) return;
    let answer = await ask('GET', path(id));
    while (place && isTransient(answer)) {
      await wait((answer.retryAfter || 3) * 1000 + Math.random() * 3000);
      if (isOver()) return;
      answer = await ask('GET', path(id));
    }
    if (!isOver()) take(id, answer, place, waiting);
  };

  const take = (id, answer, place, waiting) => {
    if (answer.status === 200) {
      places.set(id, { ...answer.body, leaving: place?.leaving, waiting: place ? waiting : answer.body.waiting });
    } else if (answer.body?.code === 'not_waiting') {
      forget(id);
      if (place) tell(id, 'good', place.leaving ? '' : t('sale.wait.turn'));
      if (place) showOrders();
    } else if (place) {
      forget(id);
      if (answer.status === 401) return logInAgain(id);
      tell(id, 'bad', trouble(answer));
    }
    refresh();
  };

  // The places of who is logged in, after a log-in or a reload.
  const find = () => {
    places.clear();
    if (!session.get()) return;
    for (const product of products()) {
      if (product.waiting > 0 || joined.get()?.includes(product.id)) askForPlace(product.id, product.waiting);
    }
  };

  return {
    show, find,
    clear: () => places.clear(),
    has: (id) => places.has(id),
    change: (id, quantity) => (places.has(id) ? leave(id) : join(id, quantity)),
  };
};
