{{/* The pod template as it was before the sidecar. */}}
{{- define "app.pod" -}}
metadata:
  labels:
    app: {{ .Release.Name }}
spec:
  securityContext:
    runAsNonRoot: true
    seccompProfile: {type: RuntimeDefault}
  initContainers:
    - name: warm-up
      image: {{ .Values.image }}
      args: [warm-up]
  containers:
    - name: app
      image: {{ .Values.image }}
      ports:
        - {name: http, containerPort: 8080}
{{- end -}}
