# Shared by the scripts of this folder: images of the neighbours, namespaces, and checks that are counted.
# shellcheck shell=bash
. "$(dirname "${BASH_SOURCE[0]}")/../cluster/common.sh"
exec 9>&- # the scripts of tests/cluster take the lock for themselves
neighbours=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cluster=$here
built=$dir/neighbours
root=$(cd "$neighbours/../.." && pwd)
tmp=$(mktemp -d)
passed=0 failed=0
forwards=() undo=()
started=$SECONDS

# later COMMAND...: at the end of the script, also if it fails; the last one first.
later() { undo+=("$(printf '%q ' "$@")"); }

finish() {
  local at
  for pid in "${forwards[@]}"; do kill "$pid" 2>/dev/null || true; done
  for ((at = ${#undo[@]} - 1; at >= 0; at--)); do
    eval "${undo[at]}" >"$tmp/undo" 2>&1 || { echo "not undone: ${undo[at]}"; tail -3 "$tmp/undo"; } >&2
  done
  rm -rf "$tmp"
}
trap finish EXIT

say() { printf '%4d s  %s\n' $((SECONDS - started)) "$*"; }

# check WHAT COMMAND...: counted, and the command's output is shown if it fails.
check() {
  local what=$1; shift
  if "$@" >"$tmp/check" 2>&1; then
    passed=$((passed + 1)); say "ok      $what"
  else
    failed=$((failed + 1)); say "FAILED  $what"
    tail -15 "$tmp/check" | sed 's/^/          /'
  fi
}

# await SECONDS COMMAND...: until the command succeeds.
await() {
  local end=$((SECONDS + $1)); shift
  until "$@"; do
    [ $SECONDS -lt $end ] || { echo "not in time: $*"; return 1; }
    sleep 0.5
  done
}

count() { # the last line of each script
  echo "$passed passed, $failed failed"
  [ $failed = 0 ]
}

# An image that holds the given files at its root, each with its path: image NAME ENTRYPOINT FILE=PATH...
image() {
  local name=$1 entrypoint=$2 context=$tmp/image file; shift 2
  rm -rf "$context"; mkdir -p "$context/root"
  for file in "$@"; do
    mkdir -p "$context/root/$(dirname "${file#*=}")"
    cp -rL "${file%%=*}" "$context/root/${file#*=}"
  done
  printf 'FROM scratch\nCOPY root/ /\nUSER 65532:65532\nENTRYPOINT ["%s"]\n' "$entrypoint" >"$context/Dockerfile"
  "$cluster/image" build -q -t "localhost/neighbour-$name:dev" "$context" >/dev/null
  "$cluster/image" load "localhost/neighbour-$name:dev" >/dev/null
}

# An empty namespace of this name, which is deleted at the end.
namespace() {
  later kubectl delete namespace "$1" --ignore-not-found --timeout=4m
  kubectl delete namespace "$1" --ignore-not-found --timeout=4m >/dev/null
  kubectl create namespace "$1" >/dev/null
}

# A service account that may do everything: the rights of the neighbours are not what is judged here.
administrator() { # namespace name
  later kubectl delete clusterrolebinding "neighbour-$2" --ignore-not-found
  kubectl create serviceaccount -n "$1" "$2" --dry-run=client -o yaml | kubectl apply -f - >/dev/null
  kubectl create clusterrolebinding "neighbour-$2" --clusterrole=cluster-admin --serviceaccount="$1:$2" \
    --dry-run=client -o yaml | kubectl apply -f - >/dev/null
}

ready() { kubectl wait -n "$1" fsale/black-friday --for=condition=Ready --timeout="${2:-3m}"; }

reason() { # namespace condition [sale]
  kubectl get fsale -n "$1" "${3:-black-friday}" -o jsonpath="{.status.conditions[?(@.type=='$2')].reason}"
}
reason_is() { [ "$(reason "$1" "$2" "${4:-black-friday}")" = "$3" ] || { reason "$1" "$2" "${4:-black-friday}"; return 1; }; }

# Forwards a port of this machine to a port of a pod or a Service: forward NAMESPACE KIND/NAME PORT. The local port is
# in forwarded.
forward() {
  local log=$tmp/forward-${#forwards[@]}
  kubectl port-forward -n "$1" "$2" ":$3" >"$log" 2>&1 &
  forwards+=($!)
  await 20 grep -qs 'Forwarding from 127' "$log" || { cat "$log"; return 1; }
  forwarded=$(sed -n 's/Forwarding from 127.0.0.1:\([0-9]*\).*/\1/p' "$log" | head -1)
}

# The load Job of a sale in a namespace, with its verdict: start_load NAMESPACE MANIFEST [jq-filter]
start_load() {
  kubectl create -n "$1" --dry-run=client -o json -f "$2" | jq --arg image "${FLASHSALE_LOAD_IMAGE:-localhost/flashsale-load:dev}" "(${3:-.}) |
    .spec.template.spec.containers[0] |= (.image = \$image | .args += [\"--targets\", \"report\"])" | kubectl apply -n "$1" -f - >/dev/null
}
# A scenario of this folder instead of the built-in one, as a filter for start_load: scenario NAMESPACE FILE
scenario() {
  kubectl create configmap -n "$1" scenario --from-file=scenario.yaml="$2" >/dev/null
  echo '.spec.activeDeadlineSeconds = 900
    | .spec.template.spec.volumes = [{name: "scenario", configMap: {name: "scenario"}}]
    | .spec.template.spec.containers[0].volumeMounts = [{name: "scenario", mountPath: "/scenario"}]
    | .spec.template.spec.containers[0].args = ["run", "--scenario-file", "/scenario/scenario.yaml", "--wait-seconds", "30"]'
}
await_load() { # namespace job: prints the report
  kubectl wait -n "$1" "job/$2" --for=jsonpath='{.status.conditions[0].status}'=True --timeout="${3:-300}s" >/dev/null 2>&1 || true
  kubectl logs -n "$1" "job/$2" --tail=-1
  [ "$(kubectl get -n "$1" "job/$2" -o jsonpath='{.status.succeeded}')" = 1 ]
}

# Applies the sample with one Redis node and two replicas: sale NAMESPACE CHANGES-OF-THE-SPEC [NAME]
sale() {
  kubectl create -n "$1" --dry-run=client -o json -f "$root/manifests/samples/single.yaml" |
    jq --argjson change "$2" --arg name "${3:-black-friday}" '.metadata.name = $name | .spec *= $change' |
    kubectl apply -n "$1" -f - >/dev/null
}
