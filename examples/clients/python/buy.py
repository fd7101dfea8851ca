"""A buyer, written with the Python client that openapi-generator makes. Prints the units that it bought."""

import datetime
import os
import uuid

import flashsale
from flashsale.exceptions import ApiException
from flashsale.models.credentials import Credentials
from flashsale.models.item import Item
from flashsale.models.new_account import NewAccount
from flashsale.models.order_request import OrderRequest
from flashsale.models.order_state import OrderState
from flashsale.models.problem import Problem
from flashsale.models.purchase_request import PurchaseRequest
from flashsale.models.sale_state import SaleState

PURCHASES = int(os.environ["PURCHASES"])


def refused(call):
    """The problem of a refused call."""
    try:
        call()
    except ApiException as error:
        assert isinstance(error.data, Problem), error
        assert error.data.status == error.status, error
        return error.data
    raise AssertionError("the call was not refused")


def replayed(answer):
    """Whether an earlier request did it. The client keeps the names of headers as they were sent, in lower case."""
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return headers.get("idempotent-replayed") == "true"


def main():
    configuration = flashsale.Configuration(host=os.environ["SALE_URL"])
    client = flashsale.ApiClient(configuration)
    auth = flashsale.AuthApi(client)
    purchases = flashsale.PurchasesApi(client)
    orders = flashsale.OrdersApi(client)

    credentials = Credentials(id="python@example.com", password="correct horse")
    account = auth.sign_up(NewAccount(id=credentials.id, password=credentials.password))
    wrong = Credentials(id=account.id, password="wrong horse")
    assert refused(lambda: auth.log_in(wrong)).code == "wrong_credentials"
    configuration.access_token = auth.log_in(credentials).access_token
    assert auth.get_account().id == account.id

    sale = flashsale.SaleApi(client).get_sale()
    assert sale.state == SaleState.OPEN and sale.ends_at is None, sale
    products = flashsale.ProductsApi(client).list_products()
    product = next(product for product in products if product.id == os.environ["PRODUCT"])
    assert product.remaining >= PURCHASES, product

    units = 0
    for _ in range(PURCHASES):
        request, key = PurchaseRequest(product_id=product.id, quantity=1), str(uuid.uuid4())
        first, again = (
            purchases.create_purchase_with_http_info(request, idempotency_key=key) for _ in range(2)
        )
        assert first.data == again.data, (first, again)
        assert not replayed(first) and replayed(again), (first, again)
        units += first.data.quantity

    other = PurchaseRequest(product_id=product.id, quantity=2)
    reused = refused(lambda: purchases.create_purchase(other, idempotency_key=key))
    assert reused.code == "idempotency_key_reused", reused
    more = PurchaseRequest(product_id=product.id, quantity=product.stock + 1)
    assert refused(lambda: purchases.create_purchase(more)).code == "sold_out"

    order = orders.place_order(OrderRequest(items=[Item(product_id=product.id, quantity=1)]))
    assert order.state == OrderState.PENDING, order
    page = orders.list_orders(limit=1)
    assert page.orders == [order] and page.next == order.order_id, page
    age = datetime.datetime.now(datetime.timezone.utc) - order.created_at
    assert abs(age) < datetime.timedelta(minutes=10), order
    cancelled = orders.cancel_order_with_http_info(order.order_id)
    assert cancelled.data.state == OrderState.CANCELLED, cancelled
    again = orders.cancel_order_with_http_info(order.order_id)
    assert replayed(again), again

    print(units)


main()
