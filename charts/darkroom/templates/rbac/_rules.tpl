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
# why a pod doesn't start
- apiGroups: [""]
  resources: [events]
  verbs: [list]
- apiGroups: [ray.io]
  resources: [rayjobs]
  verbs: [get, list, watch, create, delete]
# get: whose it is, and the photos that a job names
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, create, patch]
# get: whose it is, before it is written
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, create, patch]
{{- else }}
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get]
{{- end }}
# whether the namespace is being deleted: nothing can be removed there any more
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get]
# the Job that removes a model, where `deletionPolicy: Delete` asks for it; get: how far it is
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, create]
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

{{/* The leader's own two objects. A Lease that is created has no name to be restricted to; one that is applied has. */}}
{{- define "darkroom.rbac.leaderRules" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ include "darkroom.leaseName" . }}]
  verbs: [get, update]
{{- with include "darkroom.progressService" . }}
# where reports of progress go: only to the leader; get: whether it is still so
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  resourceNames: [{{ . }}-leader]
  verbs: [get, create, patch]
{{- end }}
{{- end -}}

{{/*
What the operator may do in the whole cluster: all, or what has no namespaced way. Lines, or nothing.
*/}}
{{- define "darkroom.rbac.clusterRules" -}}
{{- $rules := list -}}
{{- if not .Values.watchNamespaces -}}
{{- $rules = append $rules (include "darkroom.rbac.jobRules" .) -}}
{{- $rules = append $rules (include "darkroom.rbac.discoveryRules" .) -}}
{{- else if .Values.rbac.releaseDeletedNamespaces -}}
{{- $rules = append $rules (include "darkroom.rbac.releaseRules" .) -}}
{{- end -}}
{{- if include "darkroom.progressService" . -}}
{{- $rules = append $rules (include "darkroom.rbac.reviewRules" .) -}}
{{- end -}}
{{- if $rules -}}
{{- $rules = append $rules (include "darkroom.rbac.rivalRules" .) -}}
{{- end -}}
{{- join "\n" $rules -}}
{{- end -}}

{{/*
A namespace that is deleted takes the Role in it along, often before the jobs: without this the finalizer
of `deletionPolicy: Delete` could not be taken away, and the namespace would never go.
*/}}
{{- define "darkroom.rbac.releaseRules" -}}
- apiGroups: [darkroom.dev]
  resources: [personalizationjobs]
  verbs: [patch]
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get]
{{- end -}}

{{/* Whether another operator, of whatever namespace, whose name a job has still lives. */}}
{{- define "darkroom.rbac.rivalRules" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get]
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
