{{- /*
A YAML value as a CEL expression, for the mutations of an admission policy.

CEL wants each object of a pod written with its type, and the type's name is the way to it from the root:
`Object.spec.initContainers.ports{containerPort: 4012}`. Only fields whose keys are free are plain maps:
`{"cpu": "100m"}`. These templates know which fields those are, and nothing else of a pod's schema.
*/ -}}

{{- /* The fields of a container or a volume whose keys are free and whose values are strings. */ -}}
{{- define "model-sidecar.cel.freeMaps" -}}
annotations labels limits matchLabels nodeSelector options requests volumeAttributes
{{- end -}}

{{- /*
A string in CEL. JSON's escapes are all CEL's too. YAML refuses some characters that JSON leaves as they are, and
takes U+0085 for the end of a line: they are escaped here.
*/ -}}
{{- define "model-sidecar.cel.string" -}}
{{- $text := toJson (toString .) -}}
{{- if regexMatch `[\x{7f}-\x{9f}\x{feff}\x{fffe}\x{ffff}]` $text -}}
{{- range concat (untilStep 127 160 1) (list 0xfeff 0xfffe 0xffff) -}}
{{- $text = replace (printf "%c" .) (printf `\u%04x` .) $text -}}
{{- end -}}
{{- end -}}
{{- $text -}}
{{- end -}}

{{- /*
Any value. Takes a dict: `value`; `type`, the CEL type of an object at this place; `free`, true where the keys
are free and the values are strings.
*/ -}}
{{- define "model-sidecar.cel" -}}
{{- $value := .value -}}
{{- $type := .type -}}
{{- if kindIs "map" $value -}}
{{- if .free -}}
{{- include "model-sidecar.cel.map" $value -}}
{{- else -}}
{{- include "model-sidecar.cel.object" (dict "value" $value "type" $type "separator" ", ") -}}
{{- end -}}
{{- else if kindIs "slice" $value -}}
{{- $items := list -}}
{{- range $value -}}
{{- $items = append $items (include "model-sidecar.cel" (dict "value" . "type" $type)) -}}
{{- end -}}
[{{ join ", " $items }}]
{{- else if kindIs "string" $value -}}
{{- include "model-sidecar.cel.string" $value -}}
{{- else if kindIs "bool" $value -}}
{{- $value -}}
{{- else if kindIs "invalid" $value -}}
{{- fail (printf "%s is empty (null) and no field of a pod is: give it a value or take it out" $type) -}}
{{- else -}}
{{- /* Numbers come from YAML as floats, and no field of a pod is one. */ -}}
{{- if ne (float64 (int64 $value)) (float64 $value) -}}
{{- fail (printf "%s is %v: a pod knows whole numbers only" $type $value) -}}
{{- end -}}
{{- int64 $value -}}
{{- end -}}
{{- end -}}

{{- /* A map with free keys. Takes the map. */ -}}
{{- define "model-sidecar.cel.map" -}}
{{- $items := list -}}
{{- range $key, $value := . -}}
{{- $items = append $items (printf "%s: %s" (include "model-sidecar.cel.string" $key) (include "model-sidecar.cel.string" $value)) -}}
{{- end -}}
{ {{- join ", " $items -}} }
{{- end -}}

{{- /* An object of a pod. Takes a dict: `value`, `type`, and `separator`, what stands between its fields. */ -}}
{{- define "model-sidecar.cel.object" -}}
{{- $free := splitList " " (include "model-sidecar.cel.freeMaps" .) -}}
{{- $type := .type -}}
{{- $fields := list -}}
{{- range $name, $value := .value -}}
{{- $inner := dict "value" $value "type" (printf "%s.%s" $type $name) "free" (has $name $free) -}}
{{- $fields = append $fields (printf "%s: %s" $name (include "model-sidecar.cel" $inner)) -}}
{{- end -}}
{{ $type }}{ {{- join .separator $fields -}} }
{{- end -}}
