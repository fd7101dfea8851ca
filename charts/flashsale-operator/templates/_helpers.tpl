{{- define "operator.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* Name of the Deployment and of all other namespaced objects, including the Lease: releases share no objects. */}}
{{- define "operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "operator.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "operator.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Name of the Lease. Earlier releases, whose chart did not contain it, left one without the suffix, which Helm would
refuse to adopt. */}}
{{- define "operator.lease" -}}
{{- printf "%s-leader" (include "operator.fullname" .) -}}
{{- end -}}

{{/* Names of cluster-wide objects contain the namespace, so that releases do not share them. */}}
{{- define "operator.clusterName" -}}
{{- if eq (include "operator.fullname" .) .Release.Namespace -}}
{{- include "operator.fullname" . -}}
{{- else -}}
{{- printf "%s-%s" .Release.Namespace (include "operator.fullname" .) -}}
{{- end -}}
{{- end -}}

{{- define "operator.selector" -}}
app.kubernetes.io/name: {{ include "operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "operator.labels" -}}
{{ include "operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end -}}

{{/* The watched namespaces as a JSON array; empty: all. `helm upgrade --reuse-values` omits the values that the earlier
chart did not have, so templates read these with parentheses, which yield nothing for an absent map. */}}
{{- define "operator.namespaces" -}}
{{- if and .Values.watchNamespace .Values.watchNamespaces -}}
{{- fail "watchNamespace and watchNamespaces are both set: list all namespaces in watchNamespaces, and set watchNamespace to \"\"" -}}
{{- end -}}
{{- if .Values.watchNamespace -}}
{{- list .Values.watchNamespace | toJson -}}
{{- else -}}
{{- .Values.watchNamespaces | default list | uniq | sortAlpha | toJson -}}
{{- end -}}
{{- end -}}

{{- define "operator.serviceAccountName" -}}
{{- if eq (include "operator.createsServiceAccount" .) "true" -}}
{{- (.Values.serviceAccount).name | default (include "operator.fullname" .) -}}
{{- else -}}
{{- (.Values.serviceAccount).name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "operator.createsServiceAccount" -}}
{{- ne (toString (.Values.serviceAccount).create) "false" -}}
{{- end -}}

{{- define "operator.createsRbac" -}}
{{- ne (toString (.Values.rbac).create) "false" -}}
{{- end -}}

{{/* An image with the registry of all images, unless it names one. Argument: [root, image]. */}}
{{- define "operator.withRegistry" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- $registry := $root.Values.imageRegistry | default ($root.Values.global).imageRegistry -}}
{{- $host := splitList "/" $image | first -}}
{{- if and $registry (not (and (contains "/" $image) (regexMatch "[.:]|^localhost$" $host))) -}}
{{- printf "%s/%s" (trimSuffix "/" $registry) $image -}}
{{- else -}}
{{- $image -}}
{{- end -}}
{{- end -}}

{{- define "operator.image" -}}
{{- $repository := (.Values.image).repository | default "flashsale-operator" -}}
{{- $image := printf "%s:%s" $repository ((.Values.image).tag | default .Chart.AppVersion) -}}
{{- with (.Values.image).digest -}}
{{- $image = printf "%s@%s" $repository . -}}
{{- end -}}
{{- include "operator.withRegistry" (list . (.Values.images.operator | default $image)) -}}
{{- end -}}

{{- define "operator.appImage" -}}
{{- include "operator.withRegistry" (list . (.Values.images.app | default (printf "flashsale-app:%s" .Chart.AppVersion))) -}}
{{- end -}}

{{/* Pull secrets of a pod as YAML. Parent charts share them as names or as objects. */}}
{{- define "operator.imagePullSecrets" -}}
{{- $secrets := list -}}
{{- range (.Values.imagePullSecrets | default (.Values.global).imagePullSecrets) -}}
{{- $secrets = append $secrets (kindIs "string" . | ternary (dict "name" .) .) -}}
{{- end -}}
{{- if $secrets -}}
{{- toYaml $secrets -}}
{{- end -}}
{{- end -}}

{{/* Labels of the pod of `helm test`, which no selector of the operator may match. */}}
{{- define "operator.testSelector" -}}
app.kubernetes.io/name: {{ include "operator.name" . }}-test
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "operator.podSecurityContext" -}}
{{- toYaml (.Values.podSecurityContext | default (dict "runAsNonRoot" true "seccompProfile" (dict "type" "RuntimeDefault"))) -}}
{{- end -}}

{{- define "operator.securityContext" -}}
{{- $restricted := dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "capabilities" (dict "drop" (list "ALL")) -}}
{{- toYaml (.Values.securityContext | default $restricted) -}}
{{- end -}}

{{/* Seconds of a Prometheus duration, rounded up. */}}
{{- define "operator.seconds" -}}
{{- if hasSuffix "ms" . -}}
{{- div (add (trimSuffix "ms" . | int) 999) 1000 -}}
{{- else if hasSuffix "m" . -}}
{{- mul (trimSuffix "m" . | int) 60 -}}
{{- else -}}
{{- trimSuffix "s" . | int -}}
{{- end -}}
{{- end -}}
