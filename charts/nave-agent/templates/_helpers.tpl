{{/* The name that all objects carry. */}}
{{- define "nave-agent.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects the pods; it never changes within a release. */}}
{{- define "nave-agent.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "nave-agent.labels" -}}
{{ include "nave-agent.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: spoke
app.kubernetes.io/part-of: nave
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "nave-agent.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* The Secret that holds the join token; empty = there is none (any more). */}}
{{- define "nave-agent.tokenSecret" -}}
{{- if .Values.joinToken.existingSecret -}}
{{- .Values.joinToken.existingSecret -}}
{{- else if .Values.joinToken.value -}}
{{- printf "%s-join-token" (include "nave-agent.fullname" .) -}}
{{- end -}}
{{- end -}}

{{/* The ConfigMap that holds the PEM of these values (bundleTrust, s3Ca); empty = there is none. */}}
{{- define "nave-agent.pemConfigMap" -}}
{{- $pem := index .root.Values .of -}}
{{- if $pem.existingConfigMap -}}
{{- $pem.existingConfigMap -}}
{{- else if $pem.pem -}}
{{- include "nave-agent.fullname" .root -}}
{{- end -}}
{{- end -}}

{{/* A claim of the pod's own: a dict of name, pvc (its values) and size. */}}
{{- define "nave-agent.claim" -}}
- apiVersion: v1
  kind: PersistentVolumeClaim
  metadata:
    name: {{ .name }}
    {{- with .pvc.annotations }}
    annotations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  spec:
    accessModes:
      {{- toYaml .pvc.accessModes | nindent 6 }}
    {{- if ne .pvc.storageClassName nil }}
    storageClassName: {{ .pvc.storageClassName | quote }}
    {{- end }}
    {{- with .pvc.selector }}
    selector:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    resources:
      requests:
        storage: {{ .size }}
{{- end -}}

{{/* What the schema cannot say, said once, in the user's words. */}}
{{- define "nave-agent.check" -}}
{{- with .Values.hub.address -}}
{{- if not (regexMatch "^([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?|\\[[0-9A-Fa-f:.]+\\]):[0-9]{1,5}$" .) -}}
{{- fail (printf "hub.address: %q is not host:port, such as nave.example.com:7443 (no scheme, no path)" .) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.joinToken.value .Values.joinToken.existingSecret -}}
{{- fail "joinToken: give value or existingSecret, not both" -}}
{{- end -}}
{{- range $of := list "bundleTrust" "s3Ca" -}}
{{- $pem := index $.Values $of -}}
{{- if and $pem.pem $pem.existingConfigMap -}}
{{- fail (printf "%s: give pem or existingConfigMap, not both" $of) -}}
{{- end -}}
{{- end -}}
{{- if and (eq .Values.store.type "hostPath") (not .Values.store.hostPath.path) -}}
{{- fail "store.hostPath.path: required with store.type hostPath" -}}
{{- end -}}
{{- if and (eq .Values.store.cold.type "hostPath") (not .Values.store.cold.hostPath.path) -}}
{{- fail "store.cold.hostPath.path: required with store.cold.type hostPath" -}}
{{- end -}}
{{- if and (not .Values.runtimes.files) (not .Values.runtimes.hook) -}}
{{- fail "runtimes: both are null, so nothing could ever be served" -}}
{{- end -}}
{{- with .Values.runtimes.hook -}}
{{- if eq (hasKey . "command") (hasKey . "url") -}}
{{- fail "runtimes.hook: give either command or url" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The agent's configuration file. */}}
{{- define "nave-agent.config" -}}
hub: {{ required "hub.address: required, host:port of the hub (`kubectl nave token create` prints it)" .Values.hub.address | quote }}
caHash: {{ required "hub.caHash: required, sha256:... of the hub's CA (`kubectl nave token create` prints it)" .Values.hub.caHash | quote }}
cluster: {{ required "cluster.name: required, the name of this spoke" .Values.cluster.name | quote }}
stateDir: /var/lib/nave
{{- if include "nave-agent.tokenSecret" . }}
joinTokenFile: /etc/nave/join-token/token
{{- end }}
httpListen: 0.0.0.0:9090
{{- with .Values.labels }}
labels:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.facts }}
facts:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.maxConcurrentRanges }}
maxConcurrentRanges: {{ . }}
{{- end }}
{{- if include "nave-agent.pemConfigMap" (dict "root" . "of" "bundleTrust") }}
bundleTrustFile: /etc/nave/bundle-trust/trust.pem
{{- end }}
{{- if include "nave-agent.pemConfigMap" (dict "root" . "of" "s3Ca") }}
s3CaFile: /etc/nave/s3-ca/ca.pem
{{- end }}
{{- if .Values.peer.enabled }}
peer:
  listen: 0.0.0.0:{{ .Values.peer.port }}
  advertise: {{ required "peer.advertise: required with peer.enabled, host:port by which the other spokes of this site reach this one" .Values.peer.advertise | quote }}
{{- end }}
runtimes:
  {{- with .Values.runtimes.files }}
  files: {{ if .dir }}{dir: {{ .dir | quote }}}{{ else }}{}{{ end }}
  {{- end }}
  {{- with .Values.runtimes.hook }}
  hook:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- $storage := dict }}
{{- with .Values.store.quota }}
{{- $_ := set $storage "quota" (toString .) }}
{{- end }}
{{- range $key := list "highWatermark" "lowWatermark" }}
{{- $percent := index $.Values.store $key }}
{{- if not (kindIs "invalid" $percent) }}
{{- $_ := set $storage $key (int $percent) }}
{{- end }}
{{- end }}
{{- if ne .Values.store.cold.type "none" }}
{{- $cold := dict "dir" "/var/lib/nave-cold/nave" }}
{{- with .Values.store.cold.quota }}
{{- $_ := set $cold "quota" (toString .) }}
{{- end }}
{{- range $key := list "highWatermark" "lowWatermark" }}
{{- $percent := index $.Values.store.cold $key }}
{{- if not (kindIs "invalid" $percent) }}
{{- $_ := set $cold $key (int $percent) }}
{{- end }}
{{- end }}
{{- $_ := set $storage "cold" $cold }}
{{- end }}
{{- with $storage }}
storage:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
