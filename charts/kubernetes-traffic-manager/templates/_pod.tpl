{{- /* What all pods of ours have in common. Takes a dict with "root" and "values", the program's values. */ -}}
{{- define "traffic.pod" -}}
priorityClassName: {{ .values.priorityClassName | quote }}
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* Takes a dict with "root", "component" and "values", the program's values. */ -}}
{{- define "traffic.podMetadata" -}}
labels:
  {{- include "traffic.podLabels" . | nindent 2 }}
{{- with .values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* Replicas on different nodes and zones, during rollouts as well. Takes a dict with "root", "component" and "spread". */ -}}
{{- define "traffic.spread" -}}
{{- with .spread -}}
topologySpreadConstraints:
  {{- range $key, $otherwise := . }}
  {{- if $otherwise }}{{/* null, which helm hands on with --reuse-values */}}
  - topologyKey: {{ $key }}
    maxSkew: 1
    whenUnsatisfiable: {{ $otherwise }}
    labelSelector:
      matchLabels:
        {{- include "traffic.selector" $ | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "traffic.restrictedPod" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{- define "traffic.restrictedContainer" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{- /* Probes against the status port, which every program has. */ -}}
{{- define "traffic.probes" -}}
livenessProbe:
  httpGet:
    path: /healthz
    port: status
  periodSeconds: 10
  failureThreshold: 6
readinessProbe:
  httpGet:
    path: /readyz
    port: status
  periodSeconds: 2
  failureThreshold: 2
{{- end }}

{{- /* One voluntary eviction at a time. Takes a dict with "root", "component" and "replicas". */ -}}
{{- define "traffic.disruptionBudget" -}}
{{- if gt (int .replicas) 1 -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "traffic.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow # a pod that serves nobody holds up no drain of its node
  selector:
    matchLabels:
      {{- include "traffic.selector" . | nindent 6 }}
{{- end }}
{{- end }}
