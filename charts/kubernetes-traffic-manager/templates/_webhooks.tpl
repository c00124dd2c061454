{{- /*
Generated from webhook/admit/registration.go by "go test ./webhook/admit -update"; do not edit.
Both take a dict with "namespace" (the release's), "certManagerNamespace" and "copyWorkloadLabel".
*/ -}}

{{- define "traffic.mutatingWebhooks" }}
- admissionReviewVersions:
  - v1
  clientConfig:
    service:
      name: traffic-webhook
      namespace: '{{ .namespace }}'
      path: /inject
      port: 443
  failurePolicy: Fail
  matchConditions:
  - expression: '!(''kubernetes.io/config.mirror'' in object.metadata.?annotations.orValue({}))'
    name: not-a-mirror-pod
  matchPolicy: Equivalent
  name: object.inject.traffic.envoy.io
  namespaceSelector:
    matchExpressions:
    - key: kubernetes.io/metadata.name
      operator: NotIn
      values:
      - kube-system
      - '{{ .namespace }}'
      - '{{ .certManagerNamespace }}'
  objectSelector:
    matchExpressions:
    - key: traffic.envoy.enabled
      operator: In
      values:
      - "TRUE"
      - TRUe
      - TRuE
      - TRue
      - TrUE
      - TrUe
      - TruE
      - "True"
      - tRUE
      - tRUe
      - tRuE
      - tRue
      - trUE
      - trUe
      - truE
      - "true"
  reinvocationPolicy: IfNeeded
  rules:
  - apiGroups:
    - ""
    apiVersions:
    - v1
    operations:
    - CREATE
    resources:
    - pods
    scope: Namespaced
  sideEffects: None
  timeoutSeconds: 10
- admissionReviewVersions:
  - v1
  clientConfig:
    service:
      name: traffic-webhook
      namespace: '{{ .namespace }}'
      path: /inject
      port: 443
  failurePolicy: Fail
  matchConditions:
  - expression: '!(''kubernetes.io/config.mirror'' in object.metadata.?annotations.orValue({}))'
    name: not-a-mirror-pod
  matchPolicy: Equivalent
  name: namespace.inject.traffic.envoy.io
  namespaceSelector:
    matchExpressions:
    - key: kubernetes.io/metadata.name
      operator: NotIn
      values:
      - kube-system
      - '{{ .namespace }}'
      - '{{ .certManagerNamespace }}'
    - key: traffic.envoy.enabled
      operator: In
      values:
      - "TRUE"
      - TRUe
      - TRuE
      - TRue
      - TrUE
      - TrUe
      - TruE
      - "True"
      - tRUE
      - tRUe
      - tRuE
      - tRue
      - trUE
      - trUe
      - truE
      - "true"
  objectSelector:
    matchExpressions:
    - key: traffic.envoy.enabled
      operator: NotIn
      values:
      - "TRUE"
      - TRUe
      - TRuE
      - TRue
      - TrUE
      - TrUe
      - TruE
      - "True"
      - tRUE
      - tRUe
      - tRuE
      - tRue
      - trUE
      - trUe
      - truE
      - "true"
      - "FALSE"
      - FALSe
      - FALsE
      - FALse
      - FAlSE
      - FAlSe
      - FAlsE
      - FAlse
      - FaLSE
      - FaLSe
      - FaLsE
      - FaLse
      - FalSE
      - FalSe
      - FalsE
      - "False"
      - fALSE
      - fALSe
      - fALsE
      - fALse
      - fAlSE
      - fAlSe
      - fAlsE
      - fAlse
      - faLSE
      - faLSe
      - faLsE
      - faLse
      - falSE
      - falSe
      - falsE
      - "false"
  reinvocationPolicy: IfNeeded
  rules:
  - apiGroups:
    - ""
    apiVersions:
    - v1
    operations:
    - CREATE
    resources:
    - pods
    scope: Namespaced
  sideEffects: None
  timeoutSeconds: 10
{{- if .copyWorkloadLabel }}
- admissionReviewVersions:
  - v1
  clientConfig:
    service:
      name: traffic-webhook
      namespace: '{{ .namespace }}'
      path: /workload
      port: 443
  failurePolicy: Fail
  matchConditions:
  - expression: oldObject == null || object.metadata.?labels[?'traffic.envoy.enabled'].orValue('')
      != oldObject.metadata.?labels[?'traffic.envoy.enabled'].orValue('') || object.?spec.?template.or(object.?spec.?jobTemplate.?spec.?template).?metadata.?labels[?'traffic.envoy.enabled'].orValue('')
      != oldObject.?spec.?template.or(oldObject.?spec.?jobTemplate.?spec.?template).?metadata.?labels[?'traffic.envoy.enabled'].orValue('')
    name: label-changes
  matchPolicy: Equivalent
  name: workload.traffic.envoy.io
  namespaceSelector:
    matchExpressions:
    - key: kubernetes.io/metadata.name
      operator: NotIn
      values:
      - kube-system
      - '{{ .namespace }}'
      - '{{ .certManagerNamespace }}'
  objectSelector:
    matchExpressions:
    - key: traffic.envoy.enabled
      operator: Exists
  reinvocationPolicy: IfNeeded
  rules:
  - apiGroups:
    - apps
    apiVersions:
    - v1
    operations:
    - CREATE
    - UPDATE
    resources:
    - deployments
    - statefulsets
    - daemonsets
    scope: Namespaced
  - apiGroups:
    - batch
    apiVersions:
    - v1
    operations:
    - CREATE
    - UPDATE
    resources:
    - jobs
    - cronjobs
    scope: Namespaced
  sideEffects: None
  timeoutSeconds: 10
{{- else }}
- admissionReviewVersions:
  - v1
  clientConfig:
    service:
      name: traffic-webhook
      namespace: '{{ .namespace }}'
      path: /workload
      port: 443
  failurePolicy: Ignore
  matchConditions:
  - expression: oldObject == null || object.metadata.?labels[?'traffic.envoy.enabled'].orValue('')
      != oldObject.metadata.?labels[?'traffic.envoy.enabled'].orValue('') || object.?spec.?template.or(object.?spec.?jobTemplate.?spec.?template).?metadata.?labels[?'traffic.envoy.enabled'].orValue('')
      != oldObject.?spec.?template.or(oldObject.?spec.?jobTemplate.?spec.?template).?metadata.?labels[?'traffic.envoy.enabled'].orValue('')
    name: label-changes
  matchPolicy: Equivalent
  name: workload.traffic.envoy.io
  namespaceSelector:
    matchExpressions:
    - key: kubernetes.io/metadata.name
      operator: NotIn
      values:
      - kube-system
      - '{{ .namespace }}'
      - '{{ .certManagerNamespace }}'
  objectSelector:
    matchExpressions:
    - key: traffic.envoy.enabled
      operator: Exists
  reinvocationPolicy: IfNeeded
  rules:
  - apiGroups:
    - apps
    apiVersions:
    - v1
    operations:
    - CREATE
    - UPDATE
    resources:
    - deployments
    - statefulsets
    - daemonsets
    scope: Namespaced
  - apiGroups:
    - batch
    apiVersions:
    - v1
    operations:
    - CREATE
    - UPDATE
    resources:
    - jobs
    - cronjobs
    scope: Namespaced
  sideEffects: None
  timeoutSeconds: 2
{{- end }}
{{- end }}

{{- define "traffic.validatingWebhooks" }}
- admissionReviewVersions:
  - v1
  clientConfig:
    service:
      name: traffic-webhook
      namespace: '{{ .namespace }}'
      path: /warn
      port: 443
  failurePolicy: Ignore
  matchConditions:
  - expression: object.metadata.?labels.orValue({}).exists(k, k.startsWith('traffic.')
      || k.matches('^[Tt][Rr]?[Aa][Ff]{1,3}[Ii]?[Ff]?[CcKkQq]{0,2}[.][^/]+$')) ||
      object.?spec.?template.or(object.?spec.?jobTemplate.?spec.?template).?metadata.?labels.orValue({}).exists(k,
      k.startsWith('traffic.') || k.matches('^[Tt][Rr]?[Aa][Ff]{1,3}[Ii]?[Ff]?[CcKkQq]{0,2}[.][^/]+$'))
      || object.?spec.?template.or(object.?spec.?jobTemplate.?spec.?template).?metadata.?annotations.orValue({}).exists(k,
      k.startsWith('traffic.envoy.')) || (oldObject != null && oldObject.metadata.?labels.orValue({}).exists(k,
      k.startsWith('traffic.') || k.matches('^[Tt][Rr]?[Aa][Ff]{1,3}[Ii]?[Ff]?[CcKkQq]{0,2}[.][^/]+$')))
      || (request.resource.resource == 'ingresses' && object.metadata.?annotations.orValue({}).exists(k,
      k.matches('^[Tt][Rr]?[Aa][Ff]{1,3}[Ii]?[Ff]?[CcKkQq]{0,2}[.]([Ii][Nn]?[Gg]?[Rr]?[Ee][Ss]{1,3}/|[^/]+$)')))
    name: has-traffic-labels
  - expression: oldObject == null || object.metadata.?labels.orValue({}) != oldObject.metadata.?labels.orValue({})
      || object.?spec.?template.or(object.?spec.?jobTemplate.?spec.?template).?metadata.?labels.orValue({})
      != oldObject.?spec.?template.or(oldObject.?spec.?jobTemplate.?spec.?template).?metadata.?labels.orValue({})
      || object.?spec.?template.or(object.?spec.?jobTemplate.?spec.?template).?metadata.?annotations.orValue({})
      != oldObject.?spec.?template.or(oldObject.?spec.?jobTemplate.?spec.?template).?metadata.?annotations.orValue({})
      || (request.resource.resource == 'services' && object.?spec.orValue({}) != oldObject.?spec.orValue({}))
      || (request.resource.resource == 'ingresses' && object.metadata.?annotations.orValue({})
      != oldObject.metadata.?annotations.orValue({}))
    name: labels-or-service-change
  - expression: oldObject != null || !has(object.metadata.ownerReferences)
    name: not-made-by-a-controller
  matchPolicy: Equivalent
  name: warn.traffic.envoy.io
  rules:
  - apiGroups:
    - ""
    apiVersions:
    - v1
    operations:
    - CREATE
    - UPDATE
    resources:
    - namespaces
    - pods
    - services
    scope: '*'
  - apiGroups:
    - apps
    apiVersions:
    - v1
    operations:
    - CREATE
    - UPDATE
    resources:
    - deployments
    - statefulsets
    - daemonsets
    scope: Namespaced
  - apiGroups:
    - batch
    apiVersions:
    - v1
    operations:
    - CREATE
    - UPDATE
    resources:
    - jobs
    - cronjobs
    scope: Namespaced
  - apiGroups:
    - networking.k8s.io
    apiVersions:
    - v1
    operations:
    - CREATE
    - UPDATE
    resources:
    - ingresses
    scope: Namespaced
  sideEffects: None
  timeoutSeconds: 2
{{- end }}
