{{/* Names are fixed: agents' network policies, alerts and the operator itself refer to them. */}}

{{- define "boyle.selector" -}}
app.kubernetes.io/name: boyle
app.kubernetes.io/component: operator
{{- end }}

{{- define "boyle.labels" -}}
{{ include "boyle.selector" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* repository@digest, or repository:tag. */}}
{{- define "boyle.image" -}}
{{- with .image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.version }}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "boyle.operatorImage" -}}
{{ include "boyle.image" (dict "image" .Values.image "version" .Chart.AppVersion) }}
{{- end }}

{{- define "boyle.servingImage" -}}
{{ include "boyle.image" (dict "image" .Values.servingImage "version" .Chart.AppVersion) }}
{{- end }}

{{/* "true" where Prometheus' operator is to be told. */}}
{{- define "boyle.monitoring" -}}
{{- if eq (toString .Values.monitoring.enabled) "auto" -}}
{{- .Capabilities.APIVersions.Has "monitoring.coreos.com/v1" -}}
{{- else -}}
{{- .Values.monitoring.enabled -}}
{{- end -}}
{{- end }}

{{/* Pod Security Standard `restricted`, for both pods of this chart. */}}
{{- define "boyle.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "boyle.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* What the operator may do where ModelDeployments are; operator/src/rbac.rs has the same list, and a test compares. */}}
{{- define "boyle.rules" -}}
- apiGroups: [boyle.dev]
  resources: [modeldeployments]
  verbs: [list, watch]
- apiGroups: [boyle.dev]
  resources: [modeldeployments/status]
  verbs: [patch]
# Owner references that block deletion, where admission asks for it.
- apiGroups: [boyle.dev]
  resources: [modeldeployments/finalizers]
  verbs: [update]
- apiGroups: [""]
  resources: [pods]
  verbs: [delete, list, watch]
- apiGroups: [""]
  resources: [secrets, serviceaccounts, services]
  verbs: [create, get, list, patch, watch]
# The recorded plan is replaced as a whole.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [create, delete, get, list, patch, update, watch]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [create, get, list, patch, watch]
# A changed model's old agents go, with their plan.
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [create, get, list, patch, watch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [create, get, list, patch, watch]
- apiGroups: [monitoring.coreos.com]
  resources: [prometheusrules, servicemonitors]
  verbs: [create, patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}

{{/* Cluster-wide only: machines that are gone. */}}
{{- define "boyle.clusterRules" -}}
- apiGroups: [""]
  resources: [nodes]
  verbs: [list, watch]
{{- end }}

{{/* In its own namespace: the Lease, and the certificate authority's Secret. */}}
{{- define "boyle.ownRules" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create, get, update]
- apiGroups: [""]
  resources: [secrets]
  verbs: [create, get]
{{- end }}
