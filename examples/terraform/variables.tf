variable "openai_api_key" {
  description = "The provider's key: from a secret manager, or TF_VAR_openai_api_key. Never in a file, the plan or the state."
  type        = string
  ephemeral   = true
  sensitive   = true
}

variable "openai_api_key_revision" {
  description = "Raise it when the key changes: Terraform can't see a value that it doesn't keep."
  type        = number
  default     = 1
}

variable "namespace" {
  description = "The namespace of the app. It must exist."
  type        = string
  default     = "chat"
}

variable "operators" {
  description = "Groups that may swap pins, roll back and stop."
  type        = list(string)
  default     = ["sre"]
}

variable "chart" {
  description = "Where the chart is: a path, or oci://REGISTRY/NAME."
  type        = string
  default     = "oci://registry.example.com/charts/model-sidecar"
}

variable "chart_version" {
  description = "The chart's version. Not needed for a path."
  type        = string
  default     = "0.1.0"
}
