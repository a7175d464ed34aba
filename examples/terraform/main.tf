# The key is mounted from here, and a new one is taken up while the sidecars run.
resource "kubernetes_secret_v1" "openai" {
  metadata {
    name      = "openai"
    namespace = var.namespace
  }

  type             = "Opaque"
  data_wo          = { "api-key" = var.openai_api_key }
  data_wo_revision = var.openai_api_key_revision
}

# The chart keeps a pin file of a higher generation that it finds live, so an apply never takes a swapped fleet back.
resource "helm_release" "model_sidecar" {
  name             = "model-sidecar"
  namespace        = "model-sidecar"
  create_namespace = true
  chart            = var.chart
  version          = var.chart_version

  values = [
    file("${path.module}/values.yaml"),
    yamlencode({
      namespaces = [var.namespace]
      pins       = { content = file("${path.module}/pins.yaml") }
    }),
  ]

  depends_on = [kubernetes_secret_v1.openai]
}

resource "kubernetes_role_binding_v1" "operators" {
  metadata {
    name      = "model-sidecar-operators"
    namespace = var.namespace
  }

  role_ref {
    api_group = "rbac.authorization.k8s.io"
    kind      = "Role"
    name      = "model-sidecar-operator"
  }

  dynamic "subject" {
    for_each = var.operators

    content {
      api_group = "rbac.authorization.k8s.io"
      kind      = "Group"
      name      = subject.value
    }
  }

  depends_on = [helm_release.model_sidecar]
}
