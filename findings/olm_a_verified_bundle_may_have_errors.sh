#!/bin/sh
# Guess: `operator-verify manifests` ends with a status other than 0 if it found an error in a ClusterServiceVersion, so a build
#        that runs it on a bundle stops there. Only warnings let it pass.
# Seen:  operator-verify of operator-framework/api 0.44.0 prints the line with `level=error` and ends with 0, also with
#        `--operatorhub_validate --object_validate`. Its status tells only of a folder in which it finds no bundle. A build must
#        read what it prints.
# Runs:  github.com/operator-framework/api 0.44.0 from the Go proxy; no cluster. Needs go, and some minutes to build it.
# Ends:  0 if it is as seen, 1 if it changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
GOBIN=$folder go install github.com/operator-framework/api/cmd/operator-verify@v0.44.0
go version -m operator-verify | awk '$1 == "mod" { print $2, $3 }'
status=0
# What is verified, its install mode's support, the expected status, the expected number of errors, options.
verify() {
  mkdir -p "$1"
  [ "$2" = none ] || cat >"$1/shop.clusterserviceversion.yaml" <<YAML
apiVersion: operators.coreos.com/v1alpha1
kind: ClusterServiceVersion
metadata:
  name: shop.v1.0.0
  namespace: placeholder
  annotations: {alm-examples: "[]"}
spec:
  displayName: Shop
  version: 1.0.0
  provider: {name: Shop}
  minKubeVersion: 1.30.0
  install:
    strategy: deployment
    spec:
      deployments: []
  installModes:
  - {type: OwnNamespace, supported: $2}
  - {type: SingleNamespace, supported: false}
  - {type: MultiNamespace, supported: false}
  - {type: AllNamespaces, supported: $2}
YAML
  ended=0
  # shellcheck disable=SC2086
  ./operator-verify manifests $5 "$1" 2>said || ended=$?
  errors=$(grep -c level=error said) || true
  echo "$1${5:+ $5}: $errors errors, ended with $ended"
  sed -n 's/^time="[^"]*" /  /; /level=warning/!p' said
  [ "$ended $errors" = "$3 $4" ] || status=1
}
verify valid true 0 0 ""
verify invalid false 0 1 ""
verify invalid false 0 1 "--operatorhub_validate --object_validate"
verify empty none 1 0 ""
exit $status
