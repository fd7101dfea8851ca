// A buyer, written with the TypeScript client that openapi-generator makes. Prints the units that it bought.

import {
  AuthApi,
  Configuration,
  OrderState,
  OrdersApi,
  type Problem,
  ProblemFromJSON,
  ProductsApi,
  PurchasesApi,
  ResponseError,
  SaleApi,
  SaleState,
} from "./flashsale/index.js";

declare const process: { env: Record<string, string> };

const { SALE_URL, PRODUCT, PURCHASES } = process.env;

function assert(holds: boolean, found?: unknown): asserts holds {
  if (!holds) throw new Error(`not as expected: ${JSON.stringify(found)}`);
}

/** The problem of a refused call. */
async function refused(call: Promise<unknown>): Promise<Problem> {
  try {
    await call;
  } catch (error) {
    if (!(error instanceof ResponseError)) throw error;
    const problem = ProblemFromJSON(await error.response.json());
    assert(problem.status === error.response.status, problem);
    return problem;
  }
  throw new Error("the call was not refused");
}

let accessToken: string | undefined;
const configuration = new Configuration({ basePath: SALE_URL, accessToken: () => accessToken ?? "" });
const auth = new AuthApi(configuration);
const purchases = new PurchasesApi(configuration);
const orders = new OrdersApi(configuration);

const credentials = { id: "typescript@example.com", password: "correct horse" };
const account = await auth.signUp({ newAccount: credentials });
const wrong = { id: account.id, password: "wrong horse" };
assert((await refused(auth.logIn({ credentials: wrong }))).code === "wrong_credentials");
accessToken = (await auth.logIn({ credentials })).accessToken;
assert((await auth.getAccount()).id === account.id);

const sale = await new SaleApi(configuration).getSale();
assert(sale.state === SaleState.Open && sale.endsAt === null, sale);
const products = await new ProductsApi(configuration).listProducts();
const product = products.find(({ id }) => id === PRODUCT);
assert(product !== undefined && product.remaining >= Number(PURCHASES), products);

let units = 0;
let idempotencyKey = "";
for (let purchase = 0; purchase < Number(PURCHASES); purchase++) {
  idempotencyKey = crypto.randomUUID();
  const purchaseRequest = { productId: product.id, quantity: 1 };
  const first = await purchases.createPurchaseRaw({ purchaseRequest, idempotencyKey });
  const again = await purchases.createPurchaseRaw({ purchaseRequest, idempotencyKey });
  const [order, same] = [await first.value(), await again.value()];
  assert(order.orderId === same.orderId, [order, same]);
  assert(!first.raw.headers.has("Idempotent-Replayed"), order);
  assert(again.raw.headers.get("Idempotent-Replayed") === "true", same);
  units += order.quantity;
}

const other = { productId: product.id, quantity: 2 };
const reused = await refused(purchases.createPurchase({ purchaseRequest: other, idempotencyKey }));
assert(reused.code === "idempotency_key_reused", reused);
const more = { productId: product.id, quantity: product.stock + 1 };
assert((await refused(purchases.createPurchase({ purchaseRequest: more }))).code === "sold_out");

const items = [{ productId: product.id, quantity: 1 }];
const order = await orders.placeOrder({ orderRequest: { items } });
assert(order.state === OrderState.Pending, order);
const page = await orders.listOrders({ limit: 1 });
assert(page.orders[0]?.orderId === order.orderId && page.next === order.orderId, page);
assert(order.createdAt !== undefined && Math.abs(Date.now() - order.createdAt.getTime()) < 600_000, order);
const cancelled = await orders.cancelOrder({ id: order.orderId });
assert(cancelled.state === OrderState.Cancelled, cancelled);
const again = await orders.cancelOrderRaw({ id: order.orderId });
assert(again.raw.headers.get("Idempotent-Replayed") === "true");

console.log(units);
