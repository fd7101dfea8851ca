// The sale page: what is on sale, live; buying; one's orders.
'use strict';

(() => {
  const { byId, make, say, name, alertIn, session, wishes, bought, joined, ask, clock, trouble, isTransient, wait, t, counted, number, money, live } = flash;
  const cards = new Map();
  // Products with a purchase under way.
  const buying = new Set();
  let sale = null;

  // ---- showing it ----
  const parse = (time) => (time ? Date.parse(time) : null);
  const phase = () => {
    const now = clock.now();
    if (sale.starts_at && now < parse(sale.starts_at)) return 'scheduled';
    if (sale.ends_at && now >= parse(sale.ends_at)) return 'ended';
    const some = sale.products.some((product) => product.remaining > 0);
    return some || !sale.products.length ? 'open' : 'sold_out';
  };

  const show = (news) => {
    sale = news;
    const ids = new Set(sale.products.map((product) => product.id));
    for (const [id, card] of cards) {
      if (!ids.has(id)) {
        card.root.remove();
        cards.delete(id);
      }
    }
    for (const product of sale.products) {
      if (!cards.has(product.id)) cards.set(product.id, card(product.id));
      // To the end, in the sale's order; one that is there already and last does not move.
      const { root } = cards.get(product.id);
      if (root.parentNode === null) byId('products').append(root);
    }
    document.querySelector('main').classList.toggle('single', sale.products.length === 1);
    byId('empty').hidden = sale.products.length > 0;
    refresh();
  };

  const card = (id) => {
    const title = make('h3', { id: `product-${id}` });
    const left = make('b');
    const of = make('span');
    const meter = flash.meter();
    meter.setAttribute('aria-hidden', 'true');
    const limit = make('p', { className: 'limit' });
    const price = make('p', { className: 'price' });
    const quantity = make('input', { type: 'number', min: 1, max: 1000000, step: 1, value: 1, inputMode: 'numeric', id: `quantity-${id}` });
    const amount = make('label', { htmlFor: quantity.id }, t('sale.units'), quantity);
    const button = make('button', { type: 'submit' });
    const form = make('form', { className: 'order', noValidate: true }, amount, button);
    const queue = make('button', { type: 'button', className: 'quiet', hidden: true });
    queue.addEventListener('click', () => waitlist.change(id, Number(quantity.value)));
    const result = make('p', { className: 'result', role: 'status', hidden: true });
    result.setAttribute('aria-live', 'polite');
    const stock = make('p', { className: 'left' }, left, of);
    const root = make('article', { className: 'card' }, title, price, stock, meter, limit, form, queue, result);
    root.setAttribute('aria-labelledby', title.id);
    root.dataset.product = id;
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      start(id, Number(quantity.value));
    });
    return { root, title, price, left, of, meter, limit, amount, quantity, button, queue, result };
  };

  const refresh = () => {
    if (!sale) return;
    const now = phase();
    for (const product of sale.products) {
      const parts = cards.get(product.id);
      const soldOut = product.remaining <= 0;
      const busy = buying.has(product.id);
      say(parts.title, product.name);
      say(parts.left, number(product.remaining));
      say(parts.of, t('sale.left', { stock: number(product.stock) }));
      flash.fill(parts.meter, product.remaining / product.stock);
      say(parts.price, product.price ? money(product.price) : '');
      parts.price.hidden = !product.price;
      const most = product.max_per_buyer;
      say(parts.limit, most ? t('sale.limit', { count: number(most) }) : '');
      parts.limit.hidden = !most;
      parts.quantity.max = Math.min(most || 1000000, 1000000);
      parts.amount.hidden = most === 1;
      // Disabled, not gone: the button beside it stays where it is.
      parts.quantity.disabled = soldOut && (waitlist.has(product.id) || now === 'ended');
      parts.root.classList.toggle('sold-out', soldOut);
      parts.button.disabled = busy || now === 'scheduled' || now === 'ended' || soldOut;
      const state = now === 'open' && soldOut ? 'sold_out' : now;
      say(parts.button, t(`sale.button.${busy ? 'busy' : state}`));
      name(parts.button, t('sale.button_of', { button: parts.button.textContent, product: product.name }));
      name(parts.quantity, t('sale.units_of', { product: product.name }));
      waitlist.show(product, parts, now === 'open' || now === 'sold_out');
    }
    headline(now);
  };

  const headline = (now) => {
    say(byId('headline'), t(`sale.headline.${now}`));
    const [target, text, meaning] = { scheduled: [sale.starts_at, 'sale.opens', 'sale.until_open'], open: [sale.ends_at, 'sale.closes', 'sale.until_close'] }[now] || [];
    say(byId('window'), target ? t(text, { time: flash.when.format(new Date(target)) }) : t(`sale.about.${now}`));
    countdown(target && parse(target) - clock.now(), meaning);
  };

  const countdown = (milliseconds, meaning) => {
    const root = byId('countdown');
    // More than 99 days away is a date, not a countdown. Once shown, it keeps its place: what is below does not jump
    // at the moment of the start.
    const shown = milliseconds > 0 && milliseconds < 8.6e9;
    root.hidden = !shown && !root.firstChild;
    root.classList.toggle('over', !shown);
    if (!shown) return;
    const seconds = Math.ceil(milliseconds / 1000);
    const values = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60, seconds % 60];
    if (!root.firstChild) {
      for (const unit of ['days', 'hours', 'minutes', 'seconds']) {
        root.append(make('div', { className: 'unit' }, make('b'), make('span', { textContent: t(`sale.unit.${unit}`) })));
      }
    }
    name(root, t(meaning));
    values.forEach((value, index) => say(root.children[index].firstChild, String(value).padStart(2, '0')));
  };

  // ---- buying ----
  const ATTEMPTS = 12;
  const newKey = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');

  const tell = (id, kind, text) => {
    const { result } = cards.get(id) || {};
    if (!result) return alertIn(byId('notice'), text);
    result.dataset.kind = kind;
    alertIn(result, text);
  };

  const kept = () => wishes.get() ?? [];
  const keep = (wish) => wishes.set([...kept().filter((it) => it.id !== wish.id), wish]);
  const drop = (key) => wishes.set(kept().filter((it) => it.key !== key));

  const start = (id, quantity) => {
    if (!Number.isInteger(quantity) || quantity < 1) return tell(id, 'bad', t('sale.how_many'));
    // The same wish as one without an answer is that one, under its key.
    const same = kept().find((it) => it.id === id && it.quantity === quantity);
    const wish = same ?? { id, quantity, key: newKey() };
    keep(wish);
    if (!session.get()) return openAccount(t('sale.log_in_to_buy'));
    carryOut(wish);
  };

  const carryOut = async ({ id, quantity, key }) => {
    const buyer = session.get().id;
    if (buying.has(id)) return;
    keep({ id, quantity, key, buyer });
    busy(id, true);
    tell(id, 'wait', t('sale.one_moment'));
    // A log-out gives the purchase up. The next buyer in this tab did not ask for it.
    const isWanted = () => session.get()?.id === buyer && kept().some((it) => it.key === key);
    for (let attempt = 1; isWanted(); attempt += 1) {
      // What has to be paid is ordered: without a payment its units come back. A key is one order by either call.
      const isOrdered = sale.products.some((product) => product.id === id && product.hold_seconds);
      const item = { product_id: id, quantity };
      const [path, body] = isOrdered ? ['/v1/orders', { items: [item] }] : ['/v1/purchases', item];
      const answer = await ask('POST', path, { key, body });
      if (!isWanted()) break;
      if (answer.status === 201) {
        const { state } = answer.body;
        drop(key);
        bought.set([answer.body, ...(bought.get() || [])].slice(0, 50));
        if (state) tellState(id, state);
        else tell(id, 'good', counted('sale.bought', quantity));
        showOrders();
        break;
      }
      if (answer.status === 401) {
        logInAgain(id);
        break;
      }
      if (!isTransient(answer)) {
        drop(key);
        tell(id, 'bad', trouble(answer));
        break;
      }
      if (attempt === ATTEMPTS) {
        // It may have been bought: the next click asks under the same key.
        tell(id, 'bad', t('sale.still_no_answer'));
        break;
      }
      tell(id, 'wait', t('sale.trying_again', { attempt }));
      const least = answer.retryAfter ? answer.retryAfter * 1000 : Math.min(8000, 500 * 2 ** attempt);
      await wait(least + Math.random() * 500);
    }
    busy(id, false);
  };

  // After a log-in or a reload.
  const carryOutKept = () => {
    const buyer = session.get()?.id;
    // How a product is bought is not known before the products are.
    if (!buyer || !sale) return;
    for (const wish of kept()) {
      if (wish.buyer === undefined || wish.buyer === buyer) carryOut(wish);
      else {
        // Of a buyer whose log-in is over.
        drop(wish.key);
        tell(wish.id, 'wait', '');
      }
    }
  };

  const busy = (id, is) => {
    if (is) buying.add(id);
    else buying.delete(id);
    refresh();
  };

  // ---- orders ----
  const ends = ['cancelled', 'payment_failed', 'expired', 'refund_required', 'refunded'];
  const states = ['pending', 'confirmed', 'paid', ...ends];
  const stateName = (state) => (states.includes(state) ? t(`sale.state.${state}`) : state);
  const tellState = (id, state) => {
    tell(id, ends.includes(state) ? 'bad' : 'good', state === 'pending' ? t('sale.pay') : stateName(state));
  };
  // Orders that were pending in the list.
  const unpaid = new Set();
  // What became of one is news at its products.
  const tellNews = (id, state, items) => {
    if (state === 'pending') unpaid.add(id);
    else if (unpaid.delete(id)) {
      for (const { product_id: product } of items) {
        if (!buying.has(product)) tellState(product, state);
      }
    }
  };
  // When the list is asked for again, because the hold of an order is over.
  let due = Infinity;
  // How often the list was asked for: only the last answer counts, and none after a log-out.
  let asked = 0;
  const showOrders = async () => {
    due = Infinity;
    asked += 1;
    const own = asked;
    if (!session.get()) {
      byId('orders').hidden = true;
      unpaid.clear();
      return;
    }
    const answer = await ask('GET', '/v1/orders');
    if (own !== asked) return;
    const orders = answer.body?.orders || bought.get() || [];
    const title = (id) => sale?.products.find((product) => product.id === id)?.name || t('sale.product', { id });
    byId('order-list').replaceChildren(...orders.map((order) => {
      const { order_id: id, state = 'confirmed', items = [order] } = order;
      const what = items.map((line) => t('sale.line', { count: number(line.quantity), product: title(line.product_id) })).join(', ');
      tellNews(id, state, items);
      const until = state === 'pending' && parse(order.expires_at);
      // Not with a token that is over.
      if (until && answer.status !== 401) due = Math.min(due, Math.max(until + 500, clock.now() + (answer.retryAfter || 2) * 1000));
      return make('li', {}, make('b', { textContent: what }),
        ...(order.amount ? [make('span', { className: 'price', textContent: money(order) })] : []),
        make('span', { textContent: t('sale.order', { id }) }),
        make('span', { className: ends.includes(state) ? 'state over' : 'state', textContent: stateName(state) }),
        ...(until ? [make('span', { className: 'held', until })] : []));
    }));
    byId('orders').hidden = orders.length === 0;
    showHolds();
  };

  const showHolds = () => {
    const now = clock.now();
    for (const element of byId('order-list').querySelectorAll('.held')) {
      const left = Math.max(0, Math.ceil((element.until - now) / 1000));
      say(element, t('sale.held', { time: `${Math.floor(left / 60)}:${String(left % 60).padStart(2, '0')}` }));
    }
    if (now > due) showOrders();
  };

  // ---- account ----
  const dialog = byId('account');
  const rules = { id: 'rule.account_id', password: 'rule.password' };
  const openAccount = (reason) => {
    alertIn(byId('account-reason'), reason);
    alertIn(byId('account-error'), '');
    if (!dialog.open) dialog.showModal();
    byId('account-id').focus();
  };

  const showAccount = () => {
    const { id } = session.get() || {};
    say(byId('who'), id || '');
    byId('who').hidden = !id;
    byId('log-in').hidden = Boolean(id);
    byId('log-out').hidden = !id;
  };

  // The token is over. Purchases under way go on after the next log-in of the same buyer.
  const logInAgain = (id) => {
    for (const it of [session, bought, joined]) it.set(null);
    waitlist.clear();
    showAccount();
    showOrders();
    for (const it of [id, ...kept().map((wish) => wish.id)]) tell(it, 'wait', t('sale.log_in_again'));
    openAccount(t('sale.log_in_again_reason'));
  };

  byId('account-form').addEventListener('submit', async (event) => {
    event.preventDefault();
    const id = byId('account-id').value.trim();
    const password = byId('account-password').value;
    const buttons = dialog.querySelectorAll('button[type=submit]');
    buttons.forEach((button) => { button.disabled = true; });
    const crowded = (text) => alertIn(byId('account-error'), text);
    const made = event.submitter?.value === 'signup' ? await flash.signUp(id, password, byId('account-code').value.trim(), crowded) : null;
    // An account that exists is theirs if the password is; the first answer may have been lost.
    const exists = made?.body?.code === 'account_exists';
    let answer = made;
    if (!made || made.status === 201 || exists) answer = await flash.logIn(id, password, crowded);
    if (exists && answer.status === 401) answer = made;
    buttons.forEach((button) => { button.disabled = false; });
    // Only a sale that asks for a code shows the field.
    if (answer.body?.code === 'wrong_invite_code') byId('account-invite').hidden = false;
    if (answer.status !== 200) {
      alertIn(byId('account-error'), trouble(answer, rules));
      return;
    }
    byId('account-password').value = '';
    dialog.close('done');
    showAccount();
    waitlist.find();
    showOrders();
    carryOutKept();
  });
  dialog.addEventListener('close', () => {
    // A buyer who closes the dialog without a log-in gives the wishes up.
    if (dialog.returnValue !== 'done' && !session.get()) wishes.set(null);
    dialog.returnValue = '';
  });
  byId('account-close').addEventListener('click', () => dialog.close());
  byId('log-in').addEventListener('click', () => openAccount(''));
  byId('log-out').addEventListener('click', () => {
    flash.logOut();
    waitlist.clear();
    for (const parts of cards.values()) alertIn(parts.result, '');
    showAccount();
    showOrders();
  });

  // ---- from here on ----
  const waitlist = flash.waitlist({ cards, products: () => sale?.products ?? [], tell, refresh, openAccount, logInAgain, showOrders });
  // Once after a load of the page, as soon as the products are known.
  const restore = async () => {
    carryOutKept();
    waitlist.find();
    await showOrders();
  };
  let restored = null;
  const feed = flash.feed((news) => {
    show(news);
    restored ??= restore();
  });
  const begin = async () => {
    showAccount();
    live('wait', t('sale.connecting'));
    const loaded = await feed.load();
    feed.follow();
    if (!loaded) alertIn(byId('notice'), t('sale.no_answer_yet'));
    await restored;
    // What is below the products stayed out of sight until they had their places.
    document.body.classList.remove('loading');
  };
  // An order may have been paid in another tab.
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden && unpaid.size) showOrders();
  });
  setInterval(() => {
    refresh();
    showHolds();
    feed.resync();
  }, 250);
  begin();
})();
