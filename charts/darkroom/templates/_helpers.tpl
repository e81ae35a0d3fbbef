{{/* Names end up in labels and in `NAME-operator`: 50 characters leave room for that. */}}
{{- define "darkroom.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "darkroom.operator.name" -}}
{{- printf "%s-operator" (include "darkroom.fullname" .) -}}
{{- end -}}

{{/* Cluster-wide objects carry the namespace, so that two releases of one name don't meet. */}}
{{- define "darkroom.operator.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "darkroom.operator.name" .) -}}
{{- end -}}

{{- define "darkroom.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "darkroom.operator.name" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "darkroom.leaseName" -}}
{{- default (include "darkroom.operator.name" .) .Values.operator.leaseName -}}
{{- end -}}

{{/* A name of at most 63 characters; a longer one ends with its digest instead. */}}
{{- define "darkroom.shortened" -}}
{{- if le (len .) 63 -}}
{{- . -}}
{{- else -}}
{{- printf "%s-%s" (trunc 54 . | trimSuffix "-") (sha256sum . | trunc 8) -}}
{{- end -}}
{{- end -}}

{{- define "darkroom.labels" -}}
{{- $own := dict
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
  "app.kubernetes.io/name" "darkroom"
  "app.kubernetes.io/instance" .Release.Name
  "app.kubernetes.io/version" .Chart.AppVersion
  "app.kubernetes.io/part-of" "darkroom"
  "app.kubernetes.io/managed-by" .Release.Service -}}
{{- toYaml (merge $own (omit .Values.commonLabels "app.kubernetes.io/component")) -}}
{{- end -}}

{{/* The NetworkPolicies of jobs let their pods talk to this name and component. */}}
{{- define "darkroom.operator.selectorLabels" -}}
app.kubernetes.io/name: darkroom
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "darkroom.operator.labels" -}}
{{ include "darkroom.labels" . }}
app.kubernetes.io/component: operator
{{- end -}}

{{/* REPOSITORY@DIGEST or REPOSITORY:TAG. Takes (dict "image" IMAGE "root" $). */}}
{{- define "darkroom.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (default .root.Chart.AppVersion .image.tag) -}}
{{- end -}}
{{- end -}}

{{/* The Service that leads to the leader; empty when nothing listens. Pods of a Ray cluster that is not ours can't report. */}}
{{- define "darkroom.progressService" -}}
{{- if and .Values.operator.enabled .Values.progress.enabled (eq .Values.launcher.kind "kuberay") -}}
{{- printf "%s-progress" (include "darkroom.operator.name" .) | include "darkroom.shortened" -}}
{{- end -}}
{{- end -}}

{{/* Where the pods of attempts post their progress; empty without that Service. */}}
{{- define "darkroom.progressUrl" -}}
{{- with include "darkroom.progressService" . -}}
{{- printf "http://%s.%s.svc:%v" . $.Release.Namespace $.Values.operator.port -}}
{{- end -}}
{{- end -}}

{{/* The claim that examples and NOTES speak of. */}}
{{- define "darkroom.registry.claim" -}}
{{- default .Values.registry.claimName .Values.registry.existingClaim -}}
{{- end -}}

{{/* Namespaces with a registry of their own, as a JSON list: jobs mount a claim of their namespace. */}}
{{- define "darkroom.registry.namespaces" -}}
{{- if .Values.registry.namespaces -}}
{{- .Values.registry.namespaces | uniq | toJson -}}
{{- else if .Values.watchNamespaces -}}
{{- .Values.watchNamespaces | uniq | toJson -}}
{{- else -}}
{{- list .Release.Namespace | toJson -}}
{{- end -}}
{{- end -}}

{{/* A namespace in which a first job can run. */}}
{{- define "darkroom.jobNamespace" -}}
{{- $registries := include "darkroom.registry.namespaces" . | fromJsonArray -}}
{{- if .Values.watchNamespaces -}}
{{- first .Values.watchNamespaces -}}
{{- else -}}
{{- first $registries -}}
{{- end -}}
{{- end -}}

{{/* What the schema can't say, said before anything is rendered. */}}
{{- define "darkroom.checks" -}}
{{- if and (eq .Values.launcher.kind "ray-jobs") (not .Values.launcher.address) -}}
{{- fail "launcher.kind is ray-jobs: set launcher.address to the dashboard of a Ray cluster, for example http://ray-head.ray.svc:8265" -}}
{{- end -}}
{{- if eq (int .Values.operator.port) (int .Values.metrics.port) -}}
{{- fail (printf "operator.port and metrics.port are both %d: give them different ports" (int .Values.metrics.port)) -}}
{{- end -}}
{{- if and .Values.watchNamespaces .Values.registry.namespaces -}}
{{- range .Values.registry.namespaces -}}
{{- if not (has . $.Values.watchNamespaces) -}}
{{- fail (printf "registry.namespaces has %q, which is not among watchNamespaces: no job could use that registry" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Selects the namespaces of a list by name, or all of them. */}}
{{- define "darkroom.namespaceSelector" -}}
{{- if . -}}
matchExpressions:
  - key: kubernetes.io/metadata.name
    operator: In
    values: {{ toJson . }}
{{- else -}}
{}
{{- end -}}
{{- end -}}
