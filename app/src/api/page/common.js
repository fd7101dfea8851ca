// What the sale page and the administration share: texts, requests, the session, the server's clock.
'use strict';

const flash = (() => {
  const byId = (id) => document.getElementById(id);

  // An element with properties and children; text is always text, never markup.
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  // ---- texts: the server puts those of the page's language into it ----
  const lang = document.documentElement.lang;
  const texts = JSON.parse(byId('texts').textContent);
  const t = (key, values = {}) => texts[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
  const plurals = new Intl.PluralRules(lang);
  const counted = (key, count) => t(`${key}.${plurals.select(count) === 'one' ? 'one' : 'other'}`, { count: number(count) });
  // The browser's own kind of the language: en-GB writes dates as en-US does not.
  const base = (tag) => tag.toLowerCase().split('-')[0];
  const locale = navigator.languages.find((tag) => base(tag) === lang) || lang;
  const plain = new Intl.NumberFormat(locale);
  const number = (value, options) => (options ? new Intl.NumberFormat(locale, options) : plain).format(value);
  // The server says how many decimal places there are: browsers disagree with ISO 4217 about some currencies.
  const money = ({ amount, currency, decimals }) => new Intl.NumberFormat(locale, {
    style: 'currency', currency, minimumFractionDigits: decimals, maximumFractionDigits: decimals,
  }).format(amount / 10 ** decimals);
  const when = new Intl.DateTimeFormat(locale, { dateStyle: 'medium', timeStyle: 'short' });

  // Writes only a text that differs, so that a screen reader reads out only news.
  const say = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };

  const name = (element, text) => {
    if (element.getAttribute('aria-label') !== text) element.setAttribute('aria-label', text);
  };

  const alertIn = (element, text) => {
    say(element, text || '');
    element.hidden = !text;
  };

  // For this tab only, and gone with it. Scripts other than ours cannot run here (see the CSP).
  const stored = (name) => ({
    get() {
      try { return JSON.parse(sessionStorage.getItem(name)); } catch { return null; }
    },
    set(value) {
      if (value === null) sessionStorage.removeItem(name);
      else sessionStorage.setItem(name, JSON.stringify(value));
    },
  });
  const session = stored('session');
  // Purchases under way, kept over a reload: the key of one finds its order if only the answer was lost.
  const wishes = stored('wishes');
  const bought = stored('bought');
  // Products whose waiting list this tab joined: the sale counts who waits a moment later.
  const joined = stored('joined');
  // Nothing of a buyer is left to the next one in this tab.
  const logOut = () => {
    for (const it of [session, wishes, bought, joined]) it.set(null);
  };

  // ---- the language: the reader's choice, else the first that the browser lists ----
  const other = byId('language').value;
  const YEAR = 31536000;
  byId('language').addEventListener('click', () => {
    document.cookie = `lang=${other}; Path=/; Max-Age=${YEAR}; SameSite=Lax`;
    location.reload();
  });
  // Some browsers tell a server only the first of their languages, and a cache may mix pages up. Asked once.
  const chosen = /(?:^|; )lang=(\w+)/.exec(document.cookie)?.[1];
  const wanted = chosen || navigator.languages.map(base).find((tag) => tag === lang || tag === other);
  const asked = stored('language');
  if (wanted === other && asked.get() !== wanted) {
    asked.set(wanted);
    if (!chosen) document.cookie = `lang=${wanted}; Path=/; SameSite=Lax`;
    location.reload();
  }

  const ANSWER_WITHIN = 20000;
  // Answers {status, body, retryAfter}; status 0: no answer came, and what became of it is not known.
  const ask = async (method, path, { body, key, signedIn = true } = {}) => {
    const headers = {};
    if (body !== undefined) headers['Content-Type'] = 'application/json';
    if (key) headers['Idempotency-Key'] = key;
    const token = signedIn && session.get()?.token;
    if (token) headers.Authorization = `Bearer ${token}`;
    try {
      const answer = await fetch(path, {
        method, headers, cache: 'no-store',
        body: body === undefined ? undefined : JSON.stringify(body),
        signal: AbortSignal.timeout(ANSWER_WITHIN),
      });
      const text = await answer.text();
      let parsed = null;
      try { parsed = text ? JSON.parse(text) : null; } catch { /* not ours: a proxy's page */ }
      const seconds = Number(answer.headers.get('Retry-After'));
      return { status: answer.status, body: parsed, retryAfter: seconds > 0 ? seconds : null };
    } catch {
      return { status: 0, body: null, retryAfter: null };
    }
  };

  // The server's time, by a clock that nobody can set: the reader's own may be wrong.
  let ahead = Date.now() - performance.now();
  const clock = {
    now: () => ahead + performance.now(),
    // The server read its clock half a round trip before the answer came.
    set(serverTime, asked, answered) { ahead = Date.parse(serverTime) - (asked + answered) / 2; },
  };

  const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

  // Where many log in at once, passwords wait for their turn, and the sign-ups of an address are limited:
  // the answer says when to come again.
  const TRIES = 10;
  const askForAccount = async (path, credentials, crowded) => {
    for (let attempt = 1; ; attempt += 1) {
      const answer = await ask('POST', path, { body: credentials, signedIn: false });
      const signUps = answer.status === 429 && path.endsWith('/signup');
      if ((answer.status !== 503 && !signUps) || attempt === TRIES) return answer;
      crowded(t('common.crowded'));
      await wait((answer.retryAfter || 1) * 1000 + Math.random() * 1000);
    }
  };

  const signUp = (id, password, code, crowded) => askForAccount('/v1/auth/signup', { id, password, invite_code: code || undefined }, crowded);
  const logIn = async (id, password, crowded) => {
    const answer = await askForAccount('/v1/auth/login', { id, password }, crowded);
    if (answer.status !== 200) return answer;
    session.set({ id, token: answer.body.access_token });
    return answer;
  };

  // Whether the same request may be answered otherwise later.
  const isTransient = ({ status }) => status === 0 || status === 423 || status === 429 || status >= 500;

  // What is wrong, by the stable code of the problem. `rules` are texts for fields that break one.
  const trouble = ({ status, body }, rules = {}) => {
    if (status === 0) return t('error.no_answer');
    const rule = body?.code === 'invalid_request' && rules[faultyField(body)];
    if (rule) return t(rule);
    return texts[`error.${body?.code}`] || t('error.unknown');
  };
  // Problems of a field name it first.
  const faultyField = (body) => /^(\w+)(?=: )/.exec(body?.detail || '')?.[0];

  const live = (state, text) => {
    const element = byId('live');
    element.dataset.state = state;
    say(element, text);
  };
  const meter = () => make('div', { className: 'meter' }, make('i'));
  const fill = (element, part) => {
    element.firstChild.style.transform = `scaleX(${Math.min(1, Math.max(0, part || 0))})`;
  };

  return {
    byId, make, say, name, alertIn, session, wishes, bought, joined, logOut, ask, clock, signUp, logIn, isTransient,
    trouble, faultyField, wait, t, counted, number, money, when, live, meter, fill,
  };
})();
