{{- /* The alerts. Their own templates are for Prometheus, so that only the namespace is put in. */ -}}
{{- define "traffic.alerts" -}}
{{- $text := .Files.Get "files/alerts.yaml" }}
{{- if .Values.ingress.enabled }}
{{- $text = print $text (.Files.Get "files/alerts-ingress.yaml") }}
{{- end }}
{{- $text | replace "RELEASE_NAMESPACE" .Release.Namespace }}
{{- end }}
