{{- define "shopstream.name" -}}
{{ .Release.Name | trunc 30 | trimSuffix "-" }}
{{- end }}

{{- /* What `npm run generate` has written for these templates. */}}
{{- define "shopstream.data" -}}
{{ .Files.Get "files/shop.yaml" }}
{{- end }}

{{- /* Takes (dict "root" $ "part" "order"). */}}
{{- define "shopstream.selector" -}}
app.kubernetes.io/name: shopstream
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- /* Of pods: nothing that changes with the chart, or a new one would roll what it does not change. */}}
{{- define "shopstream.podLabels" -}}
{{ include "shopstream.selector" . }}
app.kubernetes.io/part-of: shopstream
{{- end }}

{{- define "shopstream.labels" -}}
{{ include "shopstream.podLabels" . }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* Of a service, or of the deployment's jobs (shop): a digest comes before a tag. */}}
{{- define "shopstream.image" -}}
{{- $image := .root.Values.image -}}
{{- $repository := printf "%s/%s" $image.prefix .name -}}
{{- if .own.digest }}{{ $repository }}@{{ .own.digest }}
{{- else }}{{ $repository }}:{{ .own.tag | default $image.tag | default .root.Chart.AppVersion }}
{{- end }}
{{- end }}

{{- define "shopstream.brokers" -}}
{{- if eq .Values.kafka.mode "strimzi" -}}
{{ include "shopstream.name" . }}-kafka-bootstrap:9093
{{- else -}}
{{ join "," .Values.kafka.brokers }}
{{- end }}
{{- end }}

{{- /* A value as the environment has it. Numbers are float64 here: toString would write large ones with an exponent. */}}
{{- define "shopstream.text" -}}
{{- if kindIs "slice" . }}{{ join "," . }}
{{- else if kindIs "float64" . }}{{ if eq (floor .) . }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- else }}{{ . }}
{{- end }}
{{- end }}

{{- /* By whom Kafka knows a service, or the deployment. */}}
{{- define "shopstream.kafkaUser" -}}
{{ include "shopstream.name" .root }}-kafka-{{ .principal }}
{{- end }}

{{- /* Settings that say how Kafka is spoken to, for whoever has KAFKA_BROKERS. Takes root and principal. */}}
{{- define "shopstream.kafkaSettings" -}}
{{- $kafka := .root.Values.kafka -}}
{{- if eq $kafka.mode "strimzi" -}}
KAFKA_TLS: "true"
KAFKA_TLS_CA_FILE: /kafka/ca/ca.crt
{{- if eq $kafka.strimzi.authentication "tls" }}
KAFKA_TLS_CERT_FILE: /kafka/user/user.crt
KAFKA_TLS_KEY_FILE: /kafka/user/user.key
{{- else }}
KAFKA_SASL_MECHANISM: scram-sha-512
KAFKA_SASL_USERNAME: {{ include "shopstream.kafkaUser" . }}
KAFKA_SASL_PASSWORD_FILE: /kafka/user/password
{{- end }}
{{- else }}
{{- if $kafka.tls.enabled }}
KAFKA_TLS: "true"
{{- if $kafka.tls.caSecret }}
KAFKA_TLS_CA_FILE: /kafka/ca/ca.crt
{{- end }}
{{- if $kafka.tls.clientCertificates }}
KAFKA_TLS_CERT_FILE: /secrets/kafka-tls-cert
KAFKA_TLS_KEY_FILE: /secrets/kafka-tls-key
{{- end }}
{{- end }}
{{- if $kafka.sasl.mechanism }}
KAFKA_SASL_MECHANISM: {{ $kafka.sasl.mechanism }}
KAFKA_SASL_USERNAME: {{ printf "%s%s" $kafka.sasl.usernamePrefix .principal | quote }}
KAFKA_SASL_PASSWORD_FILE: /secrets/kafka-sasl-password
{{- end }}
{{- end }}
{{- end }}

{{- /* Secrets of Kafka beside those of the service. */}}
{{- define "shopstream.kafkaSecrets" -}}
{{- $kafka := .root.Values.kafka -}}
{{- if eq $kafka.mode "strimzi" -}}
/kafka/ca: {{ include "shopstream.name" .root }}-cluster-ca-cert
/kafka/user: {{ include "shopstream.kafkaUser" . }}
{{- else if and $kafka.tls.enabled $kafka.tls.caSecret -}}
/kafka/ca: {{ $kafka.tls.caSecret }}
{{- end }}
{{- end }}

{{- /* The environment of a service, a map: what the chart says, what all services are told, what this one is told. */}}
{{- define "shopstream.settings" -}}
{{- $root := .root -}}
{{- $own := index $root.Values.services .name | default dict -}}
{{- $settings := dict -}}
{{- range $setting, $text := .service.environment }}
{{- with tpl $text $root }}{{ $_ := set $settings $setting . }}{{ end }}
{{- end }}
{{- if hasKey .service.environment "KAFKA_BROKERS" }}
{{- $settings = merge $settings (include "shopstream.kafkaSettings" (dict "root" $root "principal" .name) | fromYaml) }}
{{- end }}
{{- range $setting, $key := .service.secrets }}
{{- $_ := set $settings (printf "%s_FILE" $setting) (printf "/secrets/%s" $key) }}
{{- end }}
{{- if and .service.database (eq $root.Values.postgres.mode "cloudnativepg") }}
{{- $_ := set $settings "DATABASE_URL_FILE" "/database/uri" }}
{{- end }}
{{- range $own.secretSettings }}
{{- $_ := set $settings (printf "%s_FILE" .) (printf "/secrets/%s" (. | lower | replace "_" "-")) }}
{{- end }}
{{- range $setting, $value := mergeOverwrite (deepCopy $root.Values.settings) ($own.settings | default dict) }}
{{- $_ := set $settings $setting (include "shopstream.text" $value) }}
{{- end }}
{{- toYaml $settings }}
{{- end }}

{{- /* A map: what values tell the bridge service of its bridges, and so operators; their secret has the same keys. */}}
{{- define "shopstream.bridgeSettings" -}}
{{- $own := .Values.services.bridge | default dict -}}
{{- $settings := dict -}}
{{- range (include "shopstream.data" . | fromYaml).operator.asBridge }}
{{- if has . $own.secretSettings }}
{{- $_ := set $settings (printf "%s_FILE" .) (printf "/secrets/%s" (. | lower | replace "_" "-")) }}
{{- else if hasKey ($own.settings | default dict) . }}
{{- $_ := set $settings . (include "shopstream.text" (index $own.settings .)) }}
{{- end }}
{{- end }}
{{- toYaml $settings }}
{{- end }}

{{- /* By mount path, the secrets of a service's pod. */}}
{{- define "shopstream.secrets" -}}
{{- $own := index .root.Values.services .name | default dict -}}
/secrets: {{ $own.existingSecret | default (printf "%s-%s" (include "shopstream.name" .root) .name) }}
{{- if and .service.database (eq .root.Values.postgres.mode "cloudnativepg") }}
/database: {{ include "shopstream.name" .root }}-{{ .name }}-db-app
{{- end }}
{{- if hasKey .service.environment "KAFKA_BROKERS" }}
{{ include "shopstream.kafkaSecrets" (dict "root" .root "principal" .name) }}
{{- end }}
{{- end }}

{{- define "shopstream.deploymentSecret" -}}
{{ .Values.deployment.existingSecret | default (printf "%s-deployment" (include "shopstream.name" .)) }}
{{- end }}

{{- /* What every pod has. Takes root, own (a service's values), secrets (a map of mount paths). */}}
{{- define "shopstream.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: { type: RuntimeDefault }
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- with .secrets }}
volumes:
{{- range $path, $secret := . }}
  - name: {{ $path | trimPrefix "/" | replace "/" "-" }}
    # Read by the group, which the process is of, and by nobody else.
    secret: { secretName: {{ $secret }}, defaultMode: 0440 }
{{- end }}
{{- end }}
{{- with mergeOverwrite (deepCopy .root.Values.pod) (.own.pod | default dict) }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* What every container has. Takes root, image, resources, settings, secrets. */}}
{{- define "shopstream.container" -}}
image: {{ .image }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
resources:
  {{- toYaml .resources | nindent 2 }}
{{- with .settings }}
env:
{{- range $setting, $value := . }}
  - { name: {{ $setting }}, value: {{ $value | quote }} }
{{- end }}
{{- end }}
{{- with .secrets }}
volumeMounts:
{{- range $path, $secret := . }}
  - { name: {{ $path | trimPrefix "/" | replace "/" "-" }}, mountPath: {{ $path }}, readOnly: true }
{{- end }}
{{- end }}
{{- end }}
