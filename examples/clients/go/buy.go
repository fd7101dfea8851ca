// A buyer, written with the Go client that oapi-codegen makes. Prints the units that it bought.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/google/uuid"

	"flashsale.dev/buy/sale"
)

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func check(holds bool, found any) {
	if !holds {
		log.Fatalf("not as expected: %+v", found)
	}
}

// The code of a refused call.
func code(problem *sale.Problem) string {
	if problem == nil {
		log.Fatal("the call was not refused as expected")
	}
	return problem.Code
}

func main() {
	log.SetFlags(log.Lshortfile)
	ctx := context.Background()
	purchases := must(strconv.Atoi(os.Getenv("PURCHASES")))
	var token string
	authenticate := func(_ context.Context, request *http.Request) error {
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		return nil
	}
	url, options := os.Getenv("SALE_URL"), sale.WithRequestEditorFn(authenticate)
	client := must(sale.NewClientWithResponses(url, options))

	credentials := sale.Credentials{Id: "go@example.com", Password: "correct horse"}
	account := must(client.SignUpWithResponse(ctx, sale.NewAccount{Id: credentials.Id, Password: credentials.Password})).JSON201
	wrong := sale.Credentials{Id: account.Id, Password: "wrong horse"}
	refused := must(client.LogInWithResponse(ctx, wrong)).ApplicationproblemJSON401
	check(code(refused) == "wrong_credentials", refused)
	token = must(client.LogInWithResponse(ctx, credentials)).JSON200.AccessToken
	check(must(client.GetAccountWithResponse(ctx)).JSON200.Id == account.Id, account)

	state := must(client.GetSaleWithResponse(ctx)).JSON200
	check(state.State == sale.Open && state.EndsAt == nil, state)
	var product sale.ProductView
	for _, listed := range *must(client.ListProductsWithResponse(ctx)).JSON200 {
		if listed.Id == os.Getenv("PRODUCT") {
			product = listed
		}
	}
	check(product.Remaining >= int64(purchases), product)

	units := int64(0)
	one := int64(1)
	var key string
	for range purchases {
		key = uuid.NewString()
		parameters := &sale.CreatePurchaseParams{IdempotencyKey: &key}
		request := sale.PurchaseRequest{ProductId: product.Id, Quantity: &one}
		first := must(client.CreatePurchaseWithResponse(ctx, parameters, request))
		again := must(client.CreatePurchaseWithResponse(ctx, parameters, request))
		check(first.JSON201 != nil && again.JSON201 != nil, string(first.Body))
		check(*first.JSON201 == *again.JSON201, string(again.Body))
		check(first.Headers201.IdempotentReplayed == nil, first.Headers201)
		check(*again.Headers201.IdempotentReplayed, again.Headers201)
		units += first.JSON201.Quantity
	}

	two, more := int64(2), product.Stock+1
	reused := must(client.CreatePurchaseWithResponse(ctx, &sale.CreatePurchaseParams{IdempotencyKey: &key},
		sale.PurchaseRequest{ProductId: product.Id, Quantity: &two})).ApplicationproblemJSON422
	check(code(reused) == "idempotency_key_reused", reused)
	soldOut := must(client.CreatePurchaseWithResponse(ctx, &sale.CreatePurchaseParams{},
		sale.PurchaseRequest{ProductId: product.Id, Quantity: &more})).ApplicationproblemJSON409
	check(code(soldOut) == "sold_out", soldOut)

	items := []sale.Item{{ProductId: product.Id, Quantity: &one}}
	order := must(client.PlaceOrderWithResponse(ctx, &sale.PlaceOrderParams{},
		sale.OrderRequest{Items: items})).JSON201
	check(order.State == sale.OrderStatePending, order)
	limit := int64(1)
	page := must(client.ListOrdersWithResponse(ctx, &sale.ListOrdersParams{Limit: &limit})).JSON200
	check(page.Orders[0].OrderId == order.OrderId && *page.Next == order.OrderId, page)
	check(time.Since(*order.CreatedAt).Abs() < 10*time.Minute, order)
	cancelled := must(client.CancelOrderWithResponse(ctx, order.OrderId)).JSON200
	check(cancelled.State == sale.OrderStateCancelled, cancelled)
	again := must(client.CancelOrderWithResponse(ctx, order.OrderId))
	check(*again.Headers200.IdempotentReplayed, again.Headers200)

	fmt.Println(units)
}
