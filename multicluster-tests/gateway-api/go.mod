module mesh.dev/lab/gateway-api

go 1.26.0

// Only its definitions are used, as files.
require sigs.k8s.io/gateway-api v1.6.3
