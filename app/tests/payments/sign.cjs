// Signs events as Stripe does, with Stripe's own library: an array of {payload, secret, timestamp} from stdin becomes an
// array of headers.
'use strict';

const Stripe = require('stripe');

const stripe = new Stripe('sk_test_of_no_account');
const asked = JSON.parse(require('fs').readFileSync(0, 'utf8'));
process.stdout.write(JSON.stringify(asked.map((one) => stripe.webhooks.generateTestHeaderString(one))));
