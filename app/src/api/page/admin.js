// The administration: figures of the sale, live, and its products.
'use strict';

// ---- forms: `inputs` has the id of each field's input ----
// The first field with something that the browser cannot read: its value is '', as that of an empty field.
flash.unreadable = (inputs, fields) => fields.find((field) => flash.byId(inputs[field]).validity.badInput);
flash.mark = (inputs, wrong) => {
  for (const [field, id] of Object.entries(inputs)) {
    if (field === wrong) flash.byId(id).setAttribute('aria-invalid', 'true');
    else flash.byId(id).removeAttribute('aria-invalid');
  }
};

(() => {
  const { byId, make, say, alertIn, session, ask, trouble, t, number, money, live } = flash;
  const EVERY = 1000;
  const SPAN = 10000;
  const rows = new Map();
  // What the sale was like in the last minute, and each replica's lock.
  let samples = [];
  const locks = new Map();
  let products = [];
  let timer = null;

  // ---- who may see it ----
  const enter = () => {
    const { id } = session.get() || {};
    say(byId('who'), id || '');
    byId('who').hidden = !id;
    byId('log-out').hidden = !id;
    byId('gate').hidden = Boolean(id);
    for (const part of ['board', 'new']) byId(part).hidden = !id;
    clearTimeout(timer);
    if (id) look();
    else live('off', '');
  };

  const leave = (why) => {
    flash.logOut();
    samples = [];
    locks.clear();
    enter();
    alertIn(byId('gate-error'), why);
    document.dispatchEvent(new Event('left'));
  };
  document.addEventListener('session-over', () => leave(t('common.log_in_over')));

  byId('gate-form').addEventListener('submit', async (event) => {
    event.preventDefault();
    // Each request is one of the few attempts that there are.
    if (byId('gate-do').disabled) return;
    byId('gate-do').disabled = true;
    const answer = await flash.logIn(byId('gate-id').value.trim(), byId('gate-password').value,
      (text) => alertIn(byId('gate-error'), text));
    byId('gate-do').disabled = false;
    if (answer.status !== 200) return alertIn(byId('gate-error'), trouble(answer));
    byId('gate-password').value = '';
    alertIn(byId('gate-error'), '');
    enter();
  });
  byId('log-out').addEventListener('click', () => leave(''));

  // ---- figures ----
  const look = async () => {
    clearTimeout(timer);
    const answer = await ask('GET', '/v1/admin/overview');
    if (!session.get()) return;
    if (answer.status === 401) return leave(t('common.log_in_over'));
    if (answer.status === 403) return leave(trouble(answer));
    if (answer.status === 200) {
      live('on', t('common.live'));
      take(answer.body);
    } else {
      live('wait', t('admin.no_answer'));
    }
    timer = setTimeout(look, document.hidden ? 10 * EVERY : EVERY);
  };

  const take = (overview) => {
    const { replica } = overview;
    products = overview.products;
    const at = Date.parse(overview.now);
    const total = products.reduce((sum, product) => sum + product.stock, 0);
    const sold = products.reduce((sum, product) => sum + product.stock - product.remaining, 0);
    samples = [...samples.filter((sample) => sample.at > at - 60000 && sample.at < at), { at, sold }];
    say(byId('sold'), number(sold));
    say(byId('sold-of'), t('admin.sold_of', { stock: number(total), remaining: number(total - sold) }));
    showRate(at);
    showLock(at, replica);
    say(byId('nodes'), t('admin.nodes_of', { voting: number(replica.nodes_voting), nodes: number(replica.nodes) }));
    say(byId('listeners'), t('admin.listeners', { count: number(replica.listeners) }));
    say(byId('replica'), replica.name || location.host);
    showProducts();
  };

  const showRate = (at) => {
    const last = samples[samples.length - 1];
    const first = samples.find((sample) => sample.at >= at - SPAN);
    const seconds = (last.at - first.at) / 1000;
    // A deletion or a cancelled order is no sale.
    const rate = seconds > 0 ? Math.max(0, last.sold - first.sold) / seconds : 0;
    say(byId('rate'), number(rate, { maximumFractionDigits: rate < 10 ? 1 : 0 }));
    const rates = samples.slice(1).map((sample, index) => {
      const before = samples[index];
      return { at: sample.at, rate: Math.max(0, sample.sold - before.sold) / ((sample.at - before.at) / 1000) };
    });
    const most = Math.max(1, ...rates.map((one) => one.rate));
    const points = rates.map((one) => `${(120 * (1 - (at - one.at) / 60000)).toFixed(1)},${(30 - 28 * (one.rate / most)).toFixed(1)}`);
    // Before the first answer nothing is known, which is drawn as nothing sold.
    const start = points[0]?.split(',')[0] ?? '120';
    byId('line').setAttribute('points', ['0,30', `${start},30`, ...points].join(' '));
  };

  const showLock = (at, replica) => {
    // Counters grow from the replica's start, so only two answers of the same replica can be compared.
    const known = (locks.get(replica.name) || []).filter((one) => one.at > at - SPAN && one.at < at);
    const history = [...known, { at, ...replica.lock_wait }];
    locks.set(replica.name, history);
    const before = history[0];
    const count = replica.lock_wait.count - before.count;
    if (count <= 0) {
      say(byId('p99'), '–');
      say(byId('waits'), t('admin.nobody_waited'));
      return;
    }
    const between = replica.lock_wait.buckets.map(([bound, total], index) => [bound, total - before.buckets[index][1]]);
    const average = (replica.lock_wait.seconds - before.seconds) / count;
    say(byId('p99'), time(quantile(between, count, 0.99)));
    say(byId('waits'), t('admin.lock_waits', { median: time(quantile(between, count, 0.5)), average: time(average) }));
  };

  // Interpolated within a bucket, as Prometheus does it.
  const quantile = (buckets, count, part) => {
    let [from, below] = [0, 0];
    for (const [bound, total] of buckets) {
      if (total >= part * count) return from + (bound - from) * ((part * count - below) / (total - below || 1));
      [from, below] = [bound, total];
    }
    return from;
  };
  const time = (seconds) => `${number(seconds * 1000, { maximumSignificantDigits: 2 })} ms`;

  // ---- products ----
  const showProducts = () => {
    const ids = new Set(products.map((product) => product.id));
    for (const [id, parts] of rows) {
      if (!ids.has(id)) {
        parts.root.remove();
        rows.delete(id);
      }
    }
    for (const product of products) {
      if (!rows.has(product.id)) {
        const parts = row(product.id);
        rows.set(product.id, parts);
        byId('products').append(parts.root);
      }
      const parts = rows.get(product.id);
      say(parts.title, product.name);
      const counts = [['limit', product.max_per_buyer], ['wait', product.wait_timeout_ms], ['lease', product.lease_time_ms], ['hold', product.hold_seconds]];
      const facts = [t('admin.fact.id', { id: product.id }), ...(product.price ? [money(product.price)] : []), ...counts.filter(([, count]) => count).map(([fact, count]) => t(`admin.fact.${fact}`, { count: number(count) }))];
      if (!product.max_per_buyer) facts.splice(product.price ? 2 : 1, 0, t('admin.fact.no_limit'));
      say(parts.facts, facts.join(' · '));
      say(parts.left, t('admin.left', { count: number(product.remaining) }));
      say(parts.sold, t('admin.sold_row', { sold: number(product.stock - product.remaining), stock: number(product.stock) }));
      flash.fill(parts.meter, product.remaining / product.stock);
    }
    byId('empty').hidden = products.length > 0;
  };

  const row = (id) => {
    const title = make('h3', { id: `row-${id}` });
    const facts = make('p', { className: 'facts' });
    const left = make('b', { className: 'remaining' });
    const sold = make('span');
    const meter = flash.meter();
    meter.setAttribute('aria-hidden', 'true');
    const does = make('div', { className: 'does' });
    for (const kind of ['restock', 'change', 'delete']) {
      const button = make('button', { type: 'button', className: 'quiet small', textContent: t(`admin.${kind}.title`) });
      button.dataset.does = kind;
      button.setAttribute('aria-describedby', title.id);
      button.addEventListener('click', () => edit(kind, products.find((product) => product.id === id)));
      does.append(button);
    }
    const root = make('article', { className: 'row' }, make('div', {}, title, facts),
      make('div', {}, make('p', { className: 'amount' }, left, sold), meter), does);
    root.setAttribute('aria-labelledby', title.id);
    root.dataset.product = id;
    return { root, title, facts, left, sold, meter };
  };

  // ---- changing them ----
  const dialog = byId('edit');
  const inputs = { id: 'e-id', name: 'e-name', stock: 'e-stock', add: 'e-add', max_per_buyer: 'e-limit', wait_timeout_ms: 'e-wait', lease_time_ms: 'e-lease', hold_seconds: 'e-hold', price: 'e-price', currency: 'e-currency' };
  const fields = { id: 'f-id', name: 'f-name', stock: 'f-stock', add: 'f-add', max_per_buyer: 'f-limit', wait_timeout_ms: 'f-wait', lease_time_ms: 'f-lease', hold_seconds: 'f-hold', price: 'f-price', currency: 'f-currency' };
  const rules = Object.fromEntries(Object.keys(inputs).filter((field) => field !== 'currency').map((field) => [field, `rule.${field}`]));
  const terms = ['name', 'price', 'currency', 'max_per_buyer', 'wait_timeout_ms', 'lease_time_ms', 'hold_seconds'];
  // The fields of each form.
  const kinds = {
    create: ['id', 'stock', ...terms],
    change: terms,
    restock: ['add'],
    delete: [],
  };
  let editing = null;

  const edit = (kind, product) => {
    // What is seen now is what the change goes out from.
    editing = { kind, product };
    const shown = kinds[kind];
    const title = t(`admin.${kind}.title`);
    say(byId('edit-title'), product ? t('admin.edit_of', { title, product: product.name }) : title);
    say(byId('edit-do'), t(`admin.${kind}.does`));
    say(byId('edit-text'), kind === 'delete' ? t('admin.delete_text') : '');
    for (const [field, id] of Object.entries(inputs)) {
      byId(fields[field]).hidden = !shown.includes(field);
      const value = kind === 'change' ? present(product, field) : undefined;
      byId(id).value = value ?? '';
      byId(id).removeAttribute('aria-invalid');
    }
    alertIn(byId('edit-error'), '');
    dialog.showModal();
    byId(inputs[shown[0]] || 'edit-close').focus();
  };

  const present = (product, field) => {
    if (field === 'price') return product.price?.amount;
    return field === 'currency' ? product.price?.currency : product[field];
  };

  const request = () => {
    const { kind, product } = editing;
    const path = product && `/v1/products/${encodeURIComponent(product.id)}`;
    const body = {};
    for (const field of kinds[kind]) {
      const text = byId(inputs[field]).value.trim();
      if (field === 'id' || field === 'name') body[field] = text;
      else if (field === 'currency') {
        if (body.price !== undefined || text !== '') body.price = { amount: body.price ?? 0, currency: text.toUpperCase() };
      } else if (text !== '') body[field] = Number(text);
    }
    if (kind === 'create') return ask('POST', '/v1/products', { body });
    if (kind === 'change') return ask('PUT', path, { body });
    if (kind === 'restock') return ask('POST', `${path}/restock`, { body: { ...body, from: product.stock } });
    return ask('DELETE', path);
  };

  byId('edit-form').addEventListener('submit', async (event) => {
    event.preventDefault();
    const { kind, product } = editing;
    const name = product?.name || byId('e-name').value;
    const unreadable = flash.unreadable(inputs, kinds[kind]);
    flash.mark(inputs, unreadable);
    if (unreadable) return alertIn(byId('edit-error'), t(rules[unreadable]));
    byId('edit-do').disabled = true;
    const answer = await request();
    byId('edit-do').disabled = false;
    if (answer.status >= 200 && answer.status < 300) {
      dialog.close();
      alertIn(byId('notice'), t(`admin.${kind}.done`, { product: name }));
      look();
      return;
    }
    if (answer.status === 401) {
      dialog.close();
      leave(t('common.log_in_over'));
      return;
    }
    flash.mark(inputs, flash.faultyField(answer.body));
    alertIn(byId('edit-error'), trouble(answer, rules));
    if (answer.body?.code === 'stock_changed') {
      editing.product = { ...product, ...products.find((one) => one.id === product.id) };
      look();
    }
  });
  byId('edit-close').addEventListener('click', () => dialog.close());
  byId('new').addEventListener('click', () => edit('create', null));

  enter();
})();
