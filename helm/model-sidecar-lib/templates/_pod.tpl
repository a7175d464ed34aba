{{/*
An app's pod template with the sidecar in it, as YAML. Takes a dict:
  root  the chart's `$`
  pod   the pod template: an object, or its YAML
The sidecar goes first, its variables come first; nothing that the app sets is changed but NO_PROXY, which also gets the
loopback names where a proxy is set. A pod that has the sidecar already, or opts out by its label, comes back as it is. One
that can't have a sidecar fails, saying why.
*/}}
{{- define "model-sidecar.pod" -}}
{{- $values := .values | default .root.Values.modelSidecar | default .root.Values -}}
{{- include "model-sidecar.valuesAreThere" $values -}}
{{- $with := dict "root" .root "values" $values -}}
{{- $pod := .pod -}}
{{- if kindIs "string" $pod -}}
{{- $pod = fromYaml .pod -}}
{{- if hasKey $pod "Error" -}}{{- fail (printf "the pod template is not YAML: %s" $pod.Error) -}}{{- end -}}
{{- end -}}
{{- $pod = deepCopy $pod -}}
{{- $metadata := get $pod "metadata" | default dict -}}
{{- $spec := get $pod "spec" | default dict -}}
{{- $native := eq (include "model-sidecar.native" $with) "true" -}}
{{- $containers := get $spec "containers" | default list -}}
{{- $init := get $spec "initContainers" | default list -}}
{{- $there := false -}}
{{- range concat $containers $init -}}{{- if eq .name "model-sidecar" -}}{{- $there = true -}}{{- end -}}{{- end -}}
{{- $out := eq (dig "labels" "model-sidecar.io/inject" "" $metadata | toString) "false" -}}
{{- if not (or $there $out (eq (toString $values.enabled) "false")) -}}
{{- include "model-sidecar.obstacle" (dict "spec" $spec "native" $native) -}}
{{- range ternary (concat $containers $init) $containers $native -}}
{{- include "model-sidecar.environment" (dict "container" . "source" (include "model-sidecar.envFrom" $with | fromYaml) "hosts" $values.env.noProxy) -}}
{{- end -}}
{{- $sidecar := include "model-sidecar.container" $with | fromYaml -}}
{{- if $native -}}
{{- $_ := set $spec "initContainers" (prepend $init $sidecar) -}}
{{- else -}}
{{- $_ := set $spec "containers" (prepend $containers $sidecar) -}}
{{- end -}}
{{- $_ := set $spec "volumes" (concat (get $spec "volumes" | default list) (include "model-sidecar.volumes" $with | fromYamlArray)) -}}
{{- if $values.image.pullSecrets -}}
{{- $_ := set $spec "imagePullSecrets" (concat (get $spec "imagePullSecrets" | default list) $values.image.pullSecrets | uniq) -}}
{{- end -}}
{{- $labels := include "model-sidecar.labels" $with | fromYaml -}}
{{- $annotations := include "model-sidecar.annotations" $with | fromYaml -}}
{{- if not $values.existing -}}
{{- /* sidecar.yaml is read once, so a change of it rolls the pods. A change of the pins never does. */ -}}
{{- $_ := set $annotations "model-sidecar.io/settings-sha256" (include "model-sidecar.settings" $with | sha256sum) -}}
{{- end -}}
{{- $_ := set $metadata "labels" (merge (get $metadata "labels" | default dict) $labels) -}}
{{- $_ := set $metadata "annotations" (merge (get $metadata "annotations" | default dict) $annotations) -}}
{{- $_ := set $pod "metadata" $metadata -}}
{{- end -}}
{{- toYaml $pod -}}
{{- end -}}

{{/* Fails where a pod can't have a sidecar. Takes a dict: `spec`, of the pod; `native`. Returns nothing. */}}
{{- define "model-sidecar.obstacle" -}}
{{- $optOut := "or leave the sidecar out: label model-sidecar.io/inject: \"false\"" -}}
{{- if get .spec "hostNetwork" -}}
{{- fail (printf "this pod uses the host's network, where the sidecar's ports would be the whole node's: remove hostNetwork, %s" $optOut) -}}
{{- end -}}
{{- if or (eq (dig "os" "name" "" .spec) "windows") (eq (dig "nodeSelector" "kubernetes.io/os" "" .spec) "windows") -}}
{{- fail (printf "this pod runs on Windows, and the sidecar on Linux only: move the pod, %s" $optOut) -}}
{{- end -}}
{{- range concat (get .spec "containers" | default list) (get .spec "initContainers" | default list) -}}
{{- $name := .name -}}
{{- range get . "ports" | default list -}}
{{- if and (has (int .containerPort) (list 4010 4011 4012)) (not (has (get . "protocol") (list "UDP" "SCTP"))) -}}
{{- $fix := "which the sidecar takes (4010, 4011 and 4012): let it listen on another port" -}}
{{- fail (printf "container %q declares containerPort %d, %s, %s" $name (int .containerPort) $fix $optOut) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (not .native) (has (get .spec "restartPolicy") (list "Never" "OnFailure")) -}}
{{- $fix := "a classic sidecar would keep it running for ever: use Kubernetes 1.29 or later with nativeSidecar: auto" -}}
{{- fail (printf "this pod ends by itself (restartPolicy: %s), and %s, %s" (get .spec "restartPolicy") $fix $optOut) -}}
{{- end -}}
{{- end -}}

{{/*
A container's variables, changed in place: ours as the first `envFrom` source, unless it has that source already, and
loopback in NO_PROXY, since calls to the sidecar must not go through a proxy. Takes a dict: `container`; `source`; `hosts`.
Returns nothing.

Where `env` names a proxy or NO_PROXY, and where sources of the app's own may, both spellings get loopback: programs
disagree on which one wins, and our source, which has both, would hide the app's list from those that read the other one.
A missing spelling takes the other's value, by reference where that comes from elsewhere, and what the app's own sources
may say; it stands right behind the other: $(NAME) knows only what stands before. Of entries with the same name kubelet takes the last. The webhook
(sidecar/kube/injection/environment.py) and the policy follow the same rules, and a test compares the three.
*/}}
{{- define "model-sidecar.environment" -}}
{{- $hosts := .hosts -}}
{{- $sources := get .container "envFrom" | default list -}}
{{- $there := false -}}
{{- $others := false -}}
{{- range $sources -}}
{{- if and (eq (dig "configMapRef" "name" "" .) $.source.configMapRef.name) (not (get . "prefix")) -}}
{{- $there = true -}}
{{- else -}}
{{- $others = true -}}
{{- end -}}
{{- end -}}
{{- if not $there -}}
{{- $_ := set .container "envFrom" (prepend $sources .source) -}}
{{- end -}}
{{- $env := get .container "env" | default list -}}
{{- $named := $others -}}
{{- $at := dict -}}
{{- range $index, $entry := $env -}}
{{- if has $entry.name (list "NO_PROXY" "no_proxy") -}}
{{- $named = true -}}
{{- $_ := set $at $entry.name $index -}}
{{- else if has (upper $entry.name) (list "HTTP_PROXY" "HTTPS_PROXY" "ALL_PROXY") -}}
{{- $named = true -}}
{{- end -}}
{{- end -}}
{{- if $named -}}
{{- $new := list -}}
{{- range $index, $entry := $env -}}
{{- $counts := and (hasKey $at $entry.name) (eq (get $at $entry.name | int) $index) -}}
{{- $own := ternary (printf "$(%s)" $entry.name) (get $entry "value") (hasKey $entry "valueFrom") -}}
{{- if and $counts (not (hasKey $entry "valueFrom")) -}}
{{- $_ := set $entry "value" (include "model-sidecar.withHosts" (dict "value" $own "hosts" $hosts)) -}}
{{- end -}}
{{- $new = append $new $entry -}}
{{- if and $counts (eq (len $at) 1) -}}
{{- $other := ternary "no_proxy" "NO_PROXY" (eq $entry.name "NO_PROXY") -}}
{{- if and $others (ne (trim $own) "*") -}}
{{- $own = list (printf "$(%s)" $other) $own | compact | join "," -}}
{{- end -}}
{{- $new = append $new (dict "name" $other "value" (include "model-sidecar.withHosts" (dict "value" $own "hosts" $hosts))) -}}
{{- end -}}
{{- end -}}
{{- if not $at -}}
{{- $said := ternary (dict "NO_PROXY" "$(NO_PROXY),$(no_proxy)" "no_proxy" "$(NO_PROXY)") dict $others -}}
{{- range list "NO_PROXY" "no_proxy" -}}
{{- $new = append $new (dict "name" . "value" (include "model-sidecar.withHosts" (dict "value" (get $said .) "hosts" $hosts))) -}}
{{- end -}}
{{- end -}}
{{- $_ := set .container "env" $new -}}
{{- end -}}
{{- end -}}

{{/* A NO_PROXY value with the hosts that it lacks. "*" alone means all hosts, so nothing is lacking there. */}}
{{- define "model-sidecar.withHosts" -}}
{{- $value := .value | default "" -}}
{{- $there := regexSplit "[\\s,]+" (lower $value) -1 -}}
{{- $missing := list -}}
{{- range .hosts -}}{{- if not (has (lower .) $there) -}}{{- $missing = append $missing . -}}{{- end -}}{{- end -}}
{{- if or (eq (trim $value) "*") (not $missing) -}}
{{- $value -}}
{{- else if not (trim $value) -}}
{{- join "," $missing -}}
{{- else -}}
{{- printf "%s%s%s" $value (ternary "" "," (hasSuffix "," (trim $value))) (join "," $missing) -}}
{{- end -}}
{{- end -}}
