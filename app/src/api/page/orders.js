// The orders of all buyers and the audit log, on the administrators' page.
'use strict';

(() => {
  const { byId, make, say, alertIn, session, ask, trouble, t, when } = flash;
  const inputs = { order_id: 'o-id', buyer: 'o-buyer', product_id: 'o-product', state: 'o-state', from: 'o-from', until: 'o-until' };
  const rules = { order_id: 'rule.order_id', from: 'rule.moment', until: 'rule.moment' };
  const states = byId('o-state').options;

  const stateName = (state) => [...states].find((option) => option.value === state)?.text || state;
  const time = (text) => (text ? when.format(new Date(text)) : '');

  // ---- lists that are read page by page ----
  const list = ({ path, part, entries, row }) => {
    const found = byId(`${part}-found`);
    const more = byId(`${part}-more`);
    const error = byId(`${part}-error`);
    let query = null;
    const read = async (after) => {
      const asked = query;
      const parameters = new URLSearchParams(query);
      if (after) parameters.set('after', after);
      more.disabled = true;
      const answer = await ask('GET', `${path}?${parameters}`);
      more.disabled = false;
      // Another search was begun, or nobody is logged in any more.
      if (asked !== query) return;
      if (answer.status === 401) return document.dispatchEvent(new Event('session-over'));
      alertIn(error, answer.status === 200 ? '' : trouble(answer, rules));
      if (answer.status !== 200) return;
      if (!after) found.replaceChildren();
      found.append(...answer.body[entries].map(row));
      found.hidden = false;
      byId(`${part}-none`).hidden = found.children.length > 0;
      more.hidden = !answer.body.next;
      more.dataset.after = answer.body.next || '';
    };
    more.addEventListener('click', () => read(more.dataset.after));
    const clear = () => {
      query = null;
      found.replaceChildren();
      for (const element of [found, more, error, byId(`${part}-none`)]) element.hidden = true;
    };
    document.addEventListener('left', clear);
    return (next) => {
      query = { ...next };
      return read(null);
    };
  };

  const line = (...parts) => make('li', {}, ...parts);
  const soft = (text) => make('span', { textContent: text });

  // ---- orders ----
  const conditions = () => {
    const query = {};
    for (const [name, id] of Object.entries(inputs)) {
      const value = byId(id).value.trim();
      if (value === '') continue;
      const moment = byId(id).type === 'datetime-local' ? new Date(value) : null;
      query[name] = moment ? moment.toISOString() : value;
    }
    return query;
  };

  const search = list({
    path: '/v1/admin/orders',
    part: 'orders',
    entries: 'orders',
    row: (order) => line(
      make('b', { textContent: order.buyer }),
      soft(order.items.map((item) => `${item.quantity} × ${item.product_id}`).join(', ')),
      soft(time(order.created_at)),
      make('code', { textContent: order.order_id }),
      make('span', { className: 'state', textContent: stateName(order.state) }),
    ),
  });

  byId('orders-form').addEventListener('submit', (event) => {
    event.preventDefault();
    search(conditions());
  });

  byId('orders-export').addEventListener('click', async () => {
    const button = byId('orders-export');
    button.disabled = true;
    try {
      const query = new URLSearchParams({ ...conditions(), format: 'csv' });
      const headers = { Authorization: `Bearer ${session.get()?.token}` };
      const answer = await fetch(`/v1/admin/orders/export?${query}`, { headers, cache: 'no-store' });
      if (answer.status !== 200) {
        const body = await answer.json().catch(() => null);
        alertIn(byId('orders-error'), trouble({ status: answer.status, body }, rules));
        return;
      }
      const url = URL.createObjectURL(await answer.blob());
      const link = make('a', { href: url, download: 'orders.csv' });
      link.click();
      setTimeout(() => URL.revokeObjectURL(url), 60000);
      alertIn(byId('orders-error'), '');
    } catch {
      alertIn(byId('orders-error'), t('error.no_answer'));
    } finally {
      button.disabled = false;
    }
  });

  // ---- the audit log ----
  const shown = (detail) => Object.entries(detail || {}).filter(([, value]) => value !== null)
    .map(([name, value]) => `${name}: ${value}`).join(', ');

  const audit = list({
    path: '/v1/admin/audit',
    part: 'audit',
    entries: 'entries',
    row: (entry) => line(
      make('b', { textContent: entry.actor }),
      make('code', { textContent: entry.action }),
      soft(entry.target),
      soft(shown(entry.detail)),
      make('span', { className: 'state over', textContent: time(entry.at) }),
    ),
  });

  byId('audit-form').addEventListener('submit', (event) => {
    event.preventDefault();
    const actor = byId('a-actor').value.trim();
    audit(actor ? { actor } : {});
  });
})();
