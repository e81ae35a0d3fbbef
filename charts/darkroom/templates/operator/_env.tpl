{{/*
The operator's settings, each `DARKROOM_` and a field of darkroom_operator.settings.Settings, and the
level of its log: all of them, so that what runs is what this file says. Empty is the operator's own default.
*/}}
{{- define "darkroom.operator.env" -}}
{{- $trainer := .Values.trainer -}}
{{- $settings := dict
  "NAMESPACES" (uniq .Values.watchNamespaces | join ",")
  "LEASE_NAME" (include "darkroom.leaseName" .)
  "LOG_LEVEL" .Values.operator.logLevel
  "PORT" (int .Values.operator.port)
  "METRICS_PORT" (int .Values.metrics.port)
  "PROGRESS_URL" (include "darkroom.progressUrl" .)
  "PROGRESS_SERVICE" (include "darkroom.progressService" .)
  "LAUNCHER" .Values.launcher.kind
  "RAY_ADDRESS" .Values.launcher.address
  "RAY_TOKEN_FILE" (ternary "/var/run/secrets/darkroom.dev/ray/token" "" (ne .Values.launcher.tokenSecret.name ""))
  "TRAINER_IMAGE" (include "darkroom.image" (dict "image" $trainer.image "root" .))
  "IMAGE_PULL_POLICY" $trainer.image.pullPolicy
  "IMAGE_PULL_SECRETS" (join "," $trainer.imagePullSecrets)
  "RAY_VERSION" $trainer.rayVersion
  "HEAD_CPU" $trainer.head.cpu
  "HEAD_MEMORY" $trainer.head.memory
  "WORKER_CPU" $trainer.worker.cpu
  "WORKER_MEMORY" $trainer.worker.memory
  "GPU_RESOURCE" $trainer.gpuResource
  "SCRATCH_SIZE" $trainer.scratchSize
  "FILE_ROOTS" (join "," $trainer.fileRoots)
  "GRACE_SECONDS" (int $trainer.graceSeconds)
-}}
{{- range $name, $value := merge (dict) .Values.operator.tuning .Values.retries -}}
{{- $_ := set $settings (snakecase $name | upper) (int $value) -}}
{{- end -}}
- name: DARKROOM_POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: DARKROOM_POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
{{- if include "darkroom.progressService" . }}
- name: DARKROOM_POD_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
{{- end }}
{{- range $name, $value := $settings }}
- name: DARKROOM_{{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- with .Values.operator.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
