{{/* The name that all objects carry. */}}
{{- define "nave-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects the pods; it never changes within a release. */}}
{{- define "nave-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "nave-operator.labels" -}}
{{ include "nave-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: hub
app.kubernetes.io/part-of: nave
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "nave-operator.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* host:port that spokes are told. */}}
{{- define "nave-operator.hubAddress" -}}
{{- if .Values.hub.address -}}
{{- .Values.hub.address -}}
{{- else -}}
{{- printf "%s.%s.svc:%d" (include "nave-operator.fullname" .) .Release.Namespace (int .Values.service.port) -}}
{{- end -}}
{{- end -}}

{{/* What the gateways' certificate is good for: the Service's names, the address that spokes are told, and what was asked for. */}}
{{- define "nave-operator.serverNames" -}}
{{- $service := printf "%s.%s.svc" (include "nave-operator.fullname" .) .Release.Namespace -}}
{{- $names := list "localhost" "127.0.0.1" $service (printf "%s.cluster.local" $service) -}}
{{- with .Values.hub.address -}}
{{- $names = append $names (regexReplaceAll ":[0-9]+$" . "" | trimPrefix "[" | trimSuffix "]") -}}
{{- end -}}
{{- concat $names .Values.hub.serverNames | uniq | toJson -}}
{{- end -}}

{{/* What the schema cannot say, said once, in the user's words. */}}
{{- define "nave-operator.check" -}}
{{- with .Values.hub.address -}}
{{- if not (regexMatch "^([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?|\\[[0-9A-Fa-f:.]+\\]):[0-9]{1,5}$" .) -}}
{{- fail (printf "hub.address: %q is not host:port, such as nave.example.com:7443 (no scheme, no path)" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
