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
