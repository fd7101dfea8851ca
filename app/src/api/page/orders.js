// The orders of all buyers and the audit log, on the administrators' page.
'use strict';

(() => {
  const { byId, make, say, alertIn, session, ask, trouble, t, money, when } = flash;
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
  // None, and the reason is shown, if one of them cannot be read.
  const conditions = () => {
    const unreadable = flash.unreadable(inputs, Object.keys(inputs));
    flash.mark(inputs, unreadable);
    if (unreadable) {
      alertIn(byId('orders-error'), t(rules[unreadable]));
      return null;
    }
    const query = {};
    for (const [name, id] of Object.entries(inputs)) {
      const value = byId(id).value.trim();
      if (value === '') continue;
      const moment = byId(id).type === 'datetime-local' ? new Date(value) : null;
      query[name] = moment ? moment.toISOString() : value;
    }
    return query;
  };

  // ---- refunds: the money was given back elsewhere, and is recorded here ----
  const refund = byId('refund');
  let refunding = null;

  const openRefund = (order, element) => {
    refunding = { order, element };
    // The money alone was given back before, and the units follow.
    const isRefunded = order.state === 'refunded';
    const text = isRefunded ? 'admin.refund.kept' : 'admin.refund.text';
    say(byId('refund-text'), t(text, { buyer: order.buyer, amount: order.amount ? money(order) : '–' }));
    say(byId('refund-do'), t(isRefunded ? 'admin.refund.back' : 'admin.refund.does'));
    byId('r-reference').value = '';
    byId('f-reference').hidden = isRefunded;
    byId('r-back').checked = isRefunded;
    // The units of an order that was paid too late are back already.
    byId('f-back').hidden = order.state !== 'paid';
    alertIn(byId('refund-error'), '');
    refund.showModal();
  };

  byId('refund-form').addEventListener('submit', async (event) => {
    event.preventDefault();
    const { order, element } = refunding;
    const reference = byId('r-reference').value.trim();
    const body = { units_back: byId('r-back').checked, ...(reference && { reference }) };
    byId('refund-do').disabled = true;
    const answer = await ask('POST', `/v1/orders/${order.order_id}/refund`, { body });
    byId('refund-do').disabled = false;
    if (answer.status === 401) {
      refund.close();
      return document.dispatchEvent(new Event('session-over'));
    }
    if (answer.status !== 200) return alertIn(byId('refund-error'), trouble(answer));
    refund.close();
    element.replaceWith(orderRow(answer.body));
  });
  byId('refund-close').addEventListener('click', () => refund.close());

  const orderRow = (order) => {
    const element = line(
      make('b', { textContent: order.buyer }),
      soft(order.items.map((item) => `${item.quantity} × ${item.product_id}`).join(', ')),
      ...(order.amount ? [make('span', { className: 'price', textContent: money(order) })] : []),
      soft(time(order.created_at)),
      make('code', { textContent: order.order_id }),
      make('span', { className: 'state', textContent: stateName(order.state) }),
    );
    const isKept = order.units_back === false;
    if (isKept || ['paid', 'refund_required'].includes(order.state)) {
      const does = t(isKept ? 'admin.refund.back' : 'admin.refund.title');
      const button = make('button', { type: 'button', className: 'quiet small', textContent: does });
      button.addEventListener('click', () => openRefund(order, element));
      element.append(button);
    }
    return element;
  };

  const search = list({ path: '/v1/admin/orders', part: 'orders', entries: 'orders', row: orderRow });

  const searchOrders = () => {
    const query = conditions();
    if (query) search(query);
  };

  byId('orders-due').addEventListener('click', () => {
    for (const id of Object.values(inputs)) byId(id).value = '';
    byId('o-state').value = 'refund_required';
    searchOrders();
  });

  byId('orders-form').addEventListener('submit', (event) => {
    event.preventDefault();
    searchOrders();
  });

  byId('orders-export').addEventListener('click', async () => {
    const asked = conditions();
    if (!asked) return;
    const button = byId('orders-export');
    button.disabled = true;
    try {
      const query = new URLSearchParams({ ...asked, format: 'csv' });
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

  // ---- payments that changed nothing ----
  const payments = list({
    path: '/v1/admin/payments',
    part: 'payments',
    entries: 'events',
    row: (event) => {
      const button = make('button', { type: 'button', className: 'quiet small', textContent: t('admin.payments.resolve') });
      const element = line(
        make('b', { textContent: event.kind }),
        soft(t(`admin.payments.why.${event.outcome}`)),
        ...(event.amount === undefined ? [] : [soft(`${event.amount} ${event.currency}`)]),
        make('code', { textContent: event.order_id || '–' }),
        make('code', { textContent: event.event_id }),
        soft(time(event.received_at)),
        button,
      );
      button.addEventListener('click', async () => {
        button.disabled = true;
        const answer = await ask('POST', `/v1/admin/payments/${event.id}/resolve`);
        button.disabled = false;
        if (answer.status === 401) return document.dispatchEvent(new Event('session-over'));
        alertIn(byId('payments-error'), answer.status === 200 ? '' : trouble(answer));
        if (answer.status === 200) element.remove();
      });
      return element;
    },
  });

  byId('payments-form').addEventListener('submit', (event) => {
    event.preventDefault();
    payments({ open: 'true' });
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
