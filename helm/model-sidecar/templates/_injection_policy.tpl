{{- /* The parts of the admission policies: which pods, who can't have a sidecar, and the patch. It is all CEL. */ -}}

{{- /* Kubernetes has it as v1 from 1.36; 1.34 and 1.35 have v1beta1, switched off by default. */ -}}
{{- define "model-sidecar.injection.policy.apiVersion" -}}
{{- $version := include "model-sidecar.kubeVersion" . -}}
{{- if semverCompare ">=1.36.0-0" $version -}}
admissionregistration.k8s.io/v1
{{- else if semverCompare "<1.34.0-0" $version -}}
{{- fail (printf "injection.mode: policy needs Kubernetes 1.36, or 1.34 with injection.policy.beta: this is %s. Use injection.mode: webhook" $version) -}}
{{- else if not .Values.injection.policy.beta -}}
{{- fail (printf "injection.mode: policy needs Kubernetes 1.36: this is %s, where MutatingAdmissionPolicy is beta and switched off by default. If your API server has it (--feature-gates=MutatingAdmissionPolicy=true --runtime-config=admissionregistration.k8s.io/v1beta1=true), set injection.policy.beta: true; else use injection.mode: webhook" $version) -}}
{{- else -}}
admissionregistration.k8s.io/v1beta1
{{- end -}}
{{- end -}}

{{- /* The pods that a policy looks at, before any selector of who asks. */ -}}
{{- define "model-sidecar.injection.policy.pods" -}}
matchPolicy: Equivalent
resourceRules:
{{ include "model-sidecar.injection.rules" . }}
namespaceSelector:
  matchExpressions:
  - key: kubernetes.io/metadata.name
    operator: NotIn
    values:
      {{- include "model-sidecar.injection.excluded" (dict "root" . "own" false) | nindent 6 }}
{{- end -}}

{{- /* True where a pod has no sidecar, however it could have come. */ -}}
{{- define "model-sidecar.injection.policy.bare" -}}
!object.spec.containers.exists(c, c.name == 'model-sidecar') && !(has(object.spec.initContainers) && object.spec.initContainers.exists(c, c.name == 'model-sidecar'))
{{- end -}}

{{- /* True for what kubelet makes to show a static pod. It deletes one that was changed, and makes it again. */ -}}
{{- define "model-sidecar.injection.policy.mirror" -}}
has(object.metadata.annotations) && 'kubernetes.io/config.mirror' in object.metadata.annotations
{{- end -}}

{{- /*
True where there is something to do: the pod has no sidecar, or it got one by this policy and another admission
plugin changed it since (`reinvocationPolicy: IfNeeded`). A container that came later then gets the variables.
*/ -}}
{{- define "model-sidecar.injection.policy.ours" -}}
({{ include "model-sidecar.injection.policy.bare" . }}) || (has(object.metadata.annotations) && 'model-sidecar.io/injected-by' in object.metadata.annotations && object.metadata.annotations['model-sidecar.io/injected-by'] == 'policy')
{{- end -}}

{{- /* The containers of the app that run while the sidecar does. Takes the parts. */ -}}
{{- define "model-sidecar.injection.policy.together" -}}
(object.spec.containers + (has(object.spec.initContainers) ? object.spec.initContainers{{ if not .native }}.filter(c, has(c.restartPolicy)){{ end }} : [])).filter(c, c.name != 'model-sidecar')
{{- end -}}

{{- /*
Who can't have a sidecar, as a YAML list: `name`, of what must be so instead; `when`, a condition on the pod;
`message`, a CEL expression: why, and the way out. Takes the parts. The sentences are those of the webhook. No
variables in here: match conditions have none.
*/ -}}
{{- define "model-sidecar.injection.obstacles" -}}
{{- $together := include "model-sidecar.injection.policy.together" . -}}
{{- $taken := "p.containerPort in [4010, 4011, 4012] && (!has(p.protocol) || p.protocol == 'TCP')" -}}
{{- $optOut := "or opt out with the label model-sidecar.io/inject: \"false\"." -}}
{{- $volumes := list -}}
{{- range .volumes }}{{ $volumes = append $volumes (printf "'%s'" .name) }}{{ end -}}
{{- $ours := printf "v.name in [%s]" (join ", " $volumes) -}}
- name: not-on-the-host-network
  when: has(object.spec.hostNetwork) && object.spec.hostNetwork
  message: >-
    'The pod uses hostNetwork, where the sidecar\'s ports would be the node\'s: remove it, {{ $optOut }}'
- name: not-on-windows
  when: (has(object.spec.os) && object.spec.os.name == 'windows') || (has(object.spec.nodeSelector) && 'kubernetes.io/os' in object.spec.nodeSelector && object.spec.nodeSelector['kubernetes.io/os'] == 'windows')
  message: >-
    'The pod is for Windows nodes, and the sidecar\'s image is for Linux: use a Linux node, {{ $optOut }}'
- name: ports-are-free
  when: >-
    {{ $together }}.exists(c, has(c.ports) && c.ports.exists(p, {{ $taken }}))
  message: >-
    {{ $together }}.filter(c, has(c.ports) && c.ports.exists(p, {{ $taken }})).map(c,
    'The container ' + c.name + ' declares port ' + string(c.ports.filter(p, {{ $taken }})[0].containerPort))[0] +
    ', which is the sidecar\'s: move it to another port, {{ $optOut }}'
- name: volumes-are-free
  when: >-
    {{ include "model-sidecar.injection.policy.bare" . }} && has(object.spec.volumes) && object.spec.volumes.exists(v, {{ $ours }})
  message: >-
    'The pod has a volume named ' + object.spec.volumes.filter(v, {{ $ours }})[0].name +
    ', which is the sidecar\'s: give it another name, {{ $optOut }}'
{{- if not .native }}
- name: not-of-a-job
  when: has(object.metadata.ownerReferences) && object.metadata.ownerReferences.exists(r, r.kind == 'Job' && r.apiVersion.startsWith('batch/'))
  message: >-
    'The pod is a Job\'s, which would never end with a sidecar that is an ordinary container: use native sidecars (Kubernetes 1.29), {{ $optOut }}'
{{- end }}
{{- end -}}

{{- /* The lists of containers that get the variables: init containers too where the sidecar runs before them. */ -}}
{{- define "model-sidecar.injection.policy.lists" -}}
{{ ternary "containers initContainers" "containers" .native }}
{{- end -}}

{{- /* True where the `envFrom` source `s` is ours. Takes a dict with our source as `envFrom`. */ -}}
{{- define "model-sidecar.injection.policy.isOurSource" -}}
s.?configMapRef.?name.orValue("") == {{ include "model-sidecar.cel.string" .envFrom.configMapRef.name }} && s.?prefix.orValue("") == ""
{{- end -}}

{{- /*
The policy's variables: what NO_PROXY and no_proxy must say in each container, as a list with the value or without
one where nothing changes. The rules are those of the webhook (sidecar/kube/injection/environment.py), which says why:
a container whose `env` names a proxy or NO_PROXY, or which has `envFrom` sources of its own, gets loopback into both
spellings; a missing one takes the other's value, by reference where that comes from elsewhere, and what those sources may
say; of entries with the same name the last one counts.
*/ -}}
{{- define "model-sidecar.injection.policy.variables" -}}
- name: bare
  expression: {{ include "model-sidecar.injection.policy.bare" . | quote }}
- name: containers
  expression: object.spec.containers
- name: initContainers
  expression: object.spec.?initContainers.orValue([])
- name: noProxy
  expression: {{ include "model-sidecar.cel" (dict "value" .noProxy) | squote }}
{{- range splitList " " (include "model-sidecar.injection.policy.lists" .) }}
- name: {{ . }}OwnSources
  expression: |-
    variables.{{ . }}.map(c, c.?envFrom.orValue([]).exists(s, !({{ include "model-sidecar.injection.policy.isOurSource" $ }})))
- name: {{ . }}Said
  expression: |-
    variables.{{ . }}.transformList(i, c, [c.name == "model-sidecar" ? [] : c.?env.orValue([])].map(env,
      c.name == "model-sidecar" || !(variables.{{ . }}OwnSources[i] ||
        env.exists(e, e.name.upperAscii() in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] || e.name in ["NO_PROXY", "no_proxy"])) ? [] :
      ["NO_PROXY", "no_proxy"].map(name,
        env.exists(e, e.name == name) ? env.filter(e, e.name == name) : env.filter(e, e.name in ["NO_PROXY", "no_proxy"])))[0])
- name: {{ . }}Base
  expression: |-
    variables.{{ . }}Said.transformList(i, names, names.size() == 0 ? [[], []] : names.transformList(k, entries,
      entries.size() == 0 ? [variables.{{ . }}OwnSources[i] ? ["$(NO_PROXY),$(no_proxy)", "$(NO_PROXY)"][k] : ""] :
      entries[entries.size() - 1].name == ["NO_PROXY", "no_proxy"][k] ?
        (has(entries[entries.size() - 1].valueFrom) ? [] : [entries[entries.size() - 1].?value.orValue("")]) :
      [has(entries[entries.size() - 1].valueFrom) ? "$(" + entries[entries.size() - 1].name + ")" :
        entries[entries.size() - 1].?value.orValue("")].map(other,
        !variables.{{ . }}OwnSources[i] || other.trim() == "*" ? other :
        (other == "" ? "$(" + ["NO_PROXY", "no_proxy"][k] + ")" : "$(" + ["NO_PROXY", "no_proxy"][k] + ")," + other))))
- name: {{ . }}NoProxy
  expression: |-
    variables.{{ . }}Base.map(names, names.map(base, base.map(value,
      [variables.noProxy.filter(host, !(host.lowerAscii() in value.lowerAscii().findAll("[^\\s,]+")))].map(missing,
        value.trim() == "*" || missing.size() == 0 ? value :
        value.trim() == "" ? missing.join(",") :
        value + (value.trim().endsWith(",") ? "" : ",") + missing.join(","))[0])))
{{- end }}
{{- end -}}

{{- /* The JSON Patch, as CEL. Takes the parts. */ -}}
{{- define "model-sidecar.injection.policy.patch" -}}
{{- $sidecars := ternary "initContainers" "containers" .native -}}
{{- range splitList " " (include "model-sidecar.injection.policy.lists" .) -}}
{{ include "model-sidecar.injection.policy.patchList" (dict "list" . "envFrom" $.envFrom) }} +
{{ end -}}
// The sidecar, before all others. It comes after the patches above: it shifts their indexes.
(!variables.bare ? [] :
{{- if .native }}
(variables.initContainers.size() > 0 ? [] : [JSONPatch{op: "add", path: "/spec/initContainers", value: []}]) +
{{- end }}
[JSONPatch{op: "add", path: "/spec/{{ $sidecars }}/0", value: {{ include "model-sidecar.cel.object" (dict "value" .container "type" (printf "Object.spec.%s" $sidecars) "separator" ",\n  ") }}}] +
(has(object.spec.volumes) ? [] : [JSONPatch{op: "add", path: "/spec/volumes", value: []}]) +
[
{{- range .volumes }}
  JSONPatch{op: "add", path: "/spec/volumes/-", value: {{ include "model-sidecar.cel" (dict "value" . "type" "Object.spec.volumes") }}},
{{- end }}
] +
{{- with .imagePullSecrets }}
(has(object.spec.imagePullSecrets) ? [] : [JSONPatch{op: "add", path: "/spec/imagePullSecrets", value: []}]) +
[{{ range . }}{{ include "model-sidecar.cel.string" .name }}, {{ end }}].filter(name, !object.spec.?imagePullSecrets.orValue([]).exists(s, s.name == name)).map(name,
  JSONPatch{op: "add", path: "/spec/imagePullSecrets/-", value: Object.spec.imagePullSecrets{name: name}}) +
{{- end }}
{{- range $kind := list "labels" "annotations" }}
(has(object.metadata.{{ $kind }}) ? [] : [JSONPatch{op: "add", path: "/metadata/{{ $kind }}", value: {}}]) +
[
{{- range $key, $value := index $ $kind }}
  JSONPatch{op: "add", path: "/metadata/{{ $kind }}/{{ $key | replace "~" "~0" | replace "/" "~1" }}", value: {{ include "model-sidecar.cel.string" $value }}},
{{- end }}
]{{ ternary " +" ")" (eq $kind "labels") }}
{{- end }}
{{- end -}}

{{- /* The patch of one list of containers: our variables first, so that the app's own win; loopback past proxies. */ -}}
{{- define "model-sidecar.injection.policy.patchList" -}}
{{- $list := .list -}}
{{- $path := printf "\"/spec/%s/\" + string(i) + \"" $list -}}
{{- $lacks := printf "c.name != \"model-sidecar\" && !c.?envFrom.orValue([]).exists(s, %s)" (include "model-sidecar.injection.policy.isOurSource" .) -}}
// {{ $list }}
variables.{{ $list }}.transformList(i, c, !has(c.envFrom) && c.name != "model-sidecar",
  JSONPatch{op: "add", path: {{ $path }}/envFrom", value: []}) +
variables.{{ $list }}.transformList(i, c, {{ $lacks }},
  JSONPatch{op: "add", path: {{ $path }}/envFrom/0", value: {{ include "model-sidecar.cel" (dict "value" .envFrom "type" (printf "Object.spec.%s.envFrom" $list)) }}}) +
variables.{{ $list }}.transformList(i, c, !has(c.env) && variables.{{ $list }}NoProxy[i].exists(value, value.size() > 0),
  JSONPatch{op: "add", path: {{ $path }}/env", value: []})
{{- range $k, $names := list (list "NO_PROXY" "no_proxy") (list "no_proxy" "NO_PROXY") }}
{{- $name := first $names }}
{{- $other := last $names }}
{{- $value := printf "variables.%sNoProxy[i][%d]" $list $k }} +
variables.{{ $list }}.transformList(i, c, {{ $value }}.size() > 0 && c.?env.orValue([]).exists(e, e.name == "{{ $name }}"),
  JSONPatch{op: "add", path: {{ $path }}/env/" + string(c.env.transformList(j, e, e.name == "{{ $name }}", j).max()) + "/value", value: {{ $value }}[0]}) +
variables.{{ $list }}.transformList(i, c, {{ $value }}.size() > 0 && !c.?env.orValue([]).exists(e, e.name == "{{ $name }}"),
  JSONPatch{op: "add",
    path: {{ $path }}/env/" + (c.?env.orValue([]).exists(e, e.name == "{{ $other }}") ? string(c.env.transformList(j, e, e.name == "{{ $other }}", j).max() + 1) : "-"),
    value: Object.spec.{{ $list }}.env{name: "{{ $name }}", value: {{ $value }}[0]}})
{{- end }}
{{- end -}}
