#!/bin/sh
# Guess: once the API server has stored a ResourceQuota, its `spec.hard` applies to the next request: what is created after
#        it, for example by the rest of the same file, is counted and limited.
# Seen:  the admission of Kubernetes 1.34.4 compares with `status.hard` alone, which the quota's controller sets from
#        `spec.hard` a while later. It does not wait for it: a new quota refuses nothing and counts nothing; it allows one, and
#        three come. A quota that was raised refuses by the old limit, so who at once creates what it was raised for fails. A
#        client that creates or changes a quota must wait until `status.hard` is what it asked for.
# Runs:  k8s.io/apiserver 0.34.4, which is the part of kube-apiserver that decides this, from the Go proxy; no cluster. Needs go.
# Ends:  0 if it is as seen, 1 if it changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/go.mod" <<'MOD'
module finding

go 1.24.0

require (
	k8s.io/api v0.34.4
	k8s.io/apimachinery v0.34.4
	k8s.io/apiserver v0.34.4
)
MOD
cat >"$folder/main.go" <<'GO'
package main

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/resourcequota"
	"k8s.io/apiserver/pkg/quota/v1/generic"
)

const maps = "count/configmaps"

func at(number string) corev1.ResourceList {
	return corev1.ResourceList{maps: resource.MustParse(number)}
}

// Three ConfigMaps are created, one after the other; what they use is in the quota that the next one meets.
func create(what string, declared corev1.ResourceList, status corev1.ResourceQuotaStatus) {
	fmt.Println(what)
	kind := corev1.SchemeGroupVersion.WithKind("ConfigMap")
	plural := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	evaluator := generic.NewObjectCountEvaluator(plural.GroupResource(), nil, "")
	quotas := []corev1.ResourceQuota{{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "few"},
		Spec:       corev1.ResourceQuotaSpec{Hard: declared},
		Status:     status,
	}}
	for _, name := range []string{"a", "b", "c"} {
		object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}}
		request := admission.NewAttributesRecord(
			object, nil, kind, "shop", name, plural, "", admission.Create, &metav1.CreateOptions{}, false, nil)
		after, err := resourcequota.CheckRequest(quotas, request, evaluator, nil)
		if err != nil {
			fmt.Println("  " + err.Error())
			continue
		}
		quotas = after
		fmt.Printf("  configmaps %q is allowed\n", name)
	}
	used := quotas[0].Status.Used[maps]
	fmt.Printf("  used: %s\n", used.String())
}

func main() {
	create("1 allowed, 0 used:", at("1"), corev1.ResourceQuotaStatus{Hard: at("1"), Used: at("0")})
	create("1 allowed, without a status:", at("1"), corev1.ResourceQuotaStatus{})
	create("3 allowed, raised from 1, which is used:", at("3"), corev1.ResourceQuotaStatus{Hard: at("1"), Used: at("1")})
}
GO
cd "$folder"
GOFLAGS=-mod=mod go build -o finding .
go version -m finding | awk '$2 == "k8s.io/apiserver" { print $2, $3 }'
seen=$(./finding)
echo "$seen"
refused() {
  echo "  configmaps \"$1\" is forbidden: exceeded quota: few, requested: count/configmaps=1, used: count/configmaps=1, limited: count/configmaps=1"
}
allowed() { echo "  configmaps \"$1\" is allowed"; }
expected=$(
  echo "1 allowed, 0 used:"
  allowed a && refused b && refused c && echo "  used: 1"
  echo "1 allowed, without a status:"
  allowed a && allowed b && allowed c && echo "  used: 0"
  echo "3 allowed, raised from 1, which is used:"
  refused a && refused b && refused c && echo "  used: 1"
)
[ "$seen" = "$expected" ]
