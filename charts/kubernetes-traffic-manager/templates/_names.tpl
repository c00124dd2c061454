{{- /*
Labels of an object. Takes a dict with "root", "component", the program that the object belongs to, and perhaps "labels": more,
which go before commonLabels.
*/ -}}
{{- define "traffic.labels" -}}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{ include "traffic.podLabels" . }}
{{- end }}

{{- /* Labels of a pod: only what an upgrade does not change, or every upgrade would replace every pod. */ -}}
{{- define "traffic.podLabels" -}}
app.kubernetes.io/part-of: kubernetes-traffic-manager
app.kubernetes.io/component: {{ .component }}
{{ include "traffic.selector" . }}
{{- with merge (dict) (default (dict) .labels) (default (dict) .root.Values.commonLabels) }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "traffic.selector" -}}
app.kubernetes.io/name: {{ .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{- /* Reference of an image of ours. Takes a dict with "root", "name" and "reference", which wins when it is set. */ -}}
{{- define "traffic.image" -}}
{{- $images := .root.Values.images -}}
{{- .reference | default (printf "%s/%s:%s" $images.registry .name ($images.tag | default .root.Chart.AppVersion)) -}}
{{- end }}

{{- /* Resources as a program takes them in an argument: cpu=20m,memory=128Mi, in alphabetical order. */ -}}
{{- define "traffic.quantities" -}}
{{- $pairs := list -}}
{{- range $resource, $quantity := . -}}{{- $pairs = append $pairs (printf "%s=%v" $resource $quantity) -}}{{- end -}}
{{- join "," $pairs -}}
{{- end }}

{{- /* Where Envoys report traces, and empty for nowhere. */ -}}
{{- define "traffic.tracingAddress" -}}
{{- if or .Values.tracing.address (not .Values.zipkin.enabled) -}}
{{ .Values.tracing.address }}
{{- else if eq .Values.tracing.kind "zipkin" -}}
traffic-zipkin.{{ .Release.Namespace }}.svc:{{ .Values.port.trafficZipkin }}
{{- else -}}
{{ fail "zipkin.enabled with tracing.kind=otlp, which Zipkin does not speak: set tracing.address, or let tracing.kind be zipkin" }}
{{- end -}}
{{- end }}
