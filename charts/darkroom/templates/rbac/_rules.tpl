{{/*
What the operator may do in the namespaces of its jobs: each verb is a call that it makes (a server-side
apply of what isn't there needs `create` beside `patch`), and none is on secrets: pods get theirs by
mount, from the kubelet.
*/}}
{{- define "darkroom.rbac.jobRules" -}}
- apiGroups: [darkroom.dev]
  resources: [personalizationjobs]
  # patch: the finalizer of `deletionPolicy: Delete`; delete: `ttlSecondsAfterFinished`
  verbs: [get, list, watch, patch, delete]
- apiGroups: [darkroom.dev]
  resources: [personalizationjobs/status]
  verbs: [patch]
{{- if eq .Values.launcher.kind "kuberay" }}
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [ray.io]
  resources: [rayjobs]
  verbs: [get, list, watch, create, patch, delete]
# get: the photos that a job names
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, create, patch]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [create, patch]
{{- else }}
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get]
{{- end }}
# the Job that removes a model, where `deletionPolicy: Delete` asks for it
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, create, patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}

{{/* What only an operator of the whole cluster can do: notice a KubeRay that is installed after it. */}}
{{- define "darkroom.rbac.discoveryRules" -}}
- apiGroups: [apiextensions.k8s.io]
  resources: [customresourcedefinitions]
  verbs: [list, watch]
{{- end -}}

{{/* A Lease that isn't there yet has no name to be restricted to. */}}
{{- define "darkroom.rbac.leaseRules" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ include "darkroom.leaseName" . }}]
  verbs: [get, update]
{{- end -}}

{{/* Asking the API server whose token came with a progress report; there is no namespaced way. */}}
{{- define "darkroom.rbac.reviewRules" -}}
- apiGroups: [authentication.k8s.io]
  resources: [tokenreviews]
  verbs: [create]
{{- end -}}

{{- define "darkroom.rbac.subjects" -}}
- kind: ServiceAccount
  name: {{ include "darkroom.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}
