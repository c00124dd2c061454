package inject

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"strings"
)

// BootstrapVersion counts the changes of the bootstrap that the control plane must know of. A pod keeps its bootstrap for
// life, so the control plane serves this version and the one before. There was none yet: what it sends suits the first pods
// ever injected, of which tests/e2e/testdata/older.yaml is one.
const BootstrapVersion = "1"

// What the kubelet puts into container arguments, from the variables of the sidecar.
const (
	nodeID = "$(POD_NAME).$(POD_NAMESPACE)"
	podIP  = "$(POD_IP)"
	// nodeCluster is the pod's name in traces, which it shares with the others of its kind.
	nodeCluster = "$(SERVICE_NAME).$(POD_NAMESPACE)"
)

// Where the sidecar finds its files. Both folders are volumes of its own. The token is where a container would find one for
// the Kubernetes API, so that the API server does not add that one, which is none of our business, to our containers: and
// does not call us again for the change.
const (
	adminDir    = "/run/traffic"
	adminSocket = adminDir + "/admin.sock"
	tokenDir    = "/var/run/secrets/kubernetes.io/serviceaccount" //nolint:gosec // a folder, not a credential
	tokenPath   = "token"
	sdsPath     = "token-sds.json"
)

// TokenAudience is whom the sidecar's token is for.
const TokenAudience = "traffic-control"

// tokenSecret is the name under which Envoy asks its own file for the token.
const tokenSecret = "xds_token"

type (
	object = map[string]any
	list   = []any
)

const apiPrefix = "type.googleapis.com/envoy."

// typed is Envoy's way to name an extension and its configuration.
func typed(name, message string, config object) object {
	if config == nil {
		config = object{}
	}
	config["@type"] = apiPrefix + message
	return object{"name": name, "typed_config": config}
}

// bootstrap is Envoy's own configuration as JSON. It names only the control plane and the admin socket: everything that
// can change comes from the control plane.
func (c Config) bootstrap() (string, error) {
	p := proxy{
		nodeID: nodeID, nodeCluster: nodeCluster, overload: connectionLimit(maxConnections), statistics: statistics(httpStatistics),
		control:   controlPlane{host: c.ControlHost, port: c.ControlPort, family: "ALL", trust: c.controlTrust()},
		listeners: list{c.outboundListener(), statsListener(c.StatsPort)},
	}
	if !c.IPv6 {
		p.control.family = "V4_ONLY"
	}
	if c.OutboundPolicy == Passthrough {
		p.clusters = list{originalDestination()}
	}
	text, err := json.Marshal(p.bootstrap())
	if err != nil {
		return "", fmt.Errorf("bootstrap: %w", err)
	}
	return string(text), nil
}

// A proxy is in what the bootstraps of sidecars and of gateways differ.
type proxy struct {
	nodeID, nodeCluster  string
	overload, statistics object
	control              controlPlane
	listeners            list
	// clusters are those besides the control plane and the admin socket.
	clusters list
}

func (p proxy) bootstrap() object {
	ads := object{"ads": object{}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
	return object{
		"node": object{
			"id": p.nodeID, "cluster": p.nodeCluster,
			"metadata": object{"bootstrap_version": BootstrapVersion},
		},
		"admin":                 object{"address": object{"pipe": object{"path": adminSocket, "mode": 0o600}}},
		"overload_manager":      p.overload,
		"stats_config":          p.statistics,
		"deferred_stat_options": object{"enable_deferred_creation_stats": true},
		"dynamic_resources": object{
			"ads_config": object{
				"api_type":                       "DELTA_GRPC",
				"transport_api_version":          "V3",
				"set_node_on_first_message_only": true,
				"grpc_services": list{object{"envoy_grpc": object{
					"cluster_name": controlCluster,
					"retry_policy": object{"retry_back_off": object{"base_interval": "0.2s", "max_interval": "5s"}},
				}}},
			},
			// No timeout: a pod without configuration waits, it does not start with everything blocked.
			"cds_config": ads,
			"lds_config": ads,
		},
		"static_resources": object{
			"listeners": p.listeners,
			"clusters":  append(list{adminCluster(), p.control.cluster()}, p.clusters...),
		},
	}
}

// maxConnections bounds what an application that leaks connections can make the sidecar hold.
const maxConnections = 100_000

func connectionLimit(most int) object {
	const monitor = "envoy.resource_monitors.global_downstream_max_connections"
	return object{"resource_monitors": list{typed(monitor,
		"extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
		object{"max_active_downstream_connections": most})}}
}

const (
	controlCluster     = "traffic-control"
	adminClusterName   = "traffic-admin"
	passthroughCluster = "traffic-passthrough"
)

func adminCluster() object {
	return object{
		"name":            adminClusterName,
		"connect_timeout": "1s",
		"load_assignment": assignment(adminClusterName, object{"pipe": object{"path": adminSocket}}),
	}
}

func assignment(cluster string, address object) object {
	return object{
		"cluster_name": cluster,
		"endpoints":    list{object{"lb_endpoints": list{object{"endpoint": object{"address": address}}}}},
	}
}

// originalDestination lets every connection pass that the sidecar holds: Envoy's own limit of 1,024 in a cluster would
// reset the next one. Without the keepalives nobody would notice a server that vanished, since the client sees Envoy only.
func originalDestination() object {
	return object{
		"name":             passthroughCluster,
		"type":             "ORIGINAL_DST",
		"lb_policy":        "CLUSTER_PROVIDED",
		"connect_timeout":  "60s",
		"circuit_breakers": object{"thresholds": list{object{"max_connections": maxConnections, "max_pending_requests": maxConnections}}},
		"upstream_connection_options": object{"tcp_keepalive": object{
			"keepalive_time": 60, "keepalive_interval": 10, "keepalive_probes": 6,
		}},
	}
}

// A controlPlane is where traffic-control is. What is not known yet may be a variable that the kubelet puts in.
type controlPlane struct {
	host string
	port any
	// family is which addresses of the host are asked for, as Envoy spells it.
	family string
	// trust is how its certificate is verified, a field of Envoy's CommonTlsContext.
	trust object
}

// cluster is the way to traffic-control: HTTP/2 over TLS 1.3, with the pod's token in each request.
func (c controlPlane) cluster() object {
	const http2 = "extensions.upstreams.http.v3.HttpProtocolOptions"
	return object{
		"name":            controlCluster,
		"connect_timeout": "5s",
		"cluster_type": typed("envoy.clusters.dns", "extensions.clusters.dns.v3.DnsCluster", object{
			"dns_lookup_family": c.family,
			// While the name does not resolve, the pod waits: ask again soon.
			"dns_failure_refresh_rate": object{"base_interval": "0.5s", "max_interval": "2s"},
		}),
		"upstream_connection_options": object{"tcp_keepalive": object{
			"keepalive_time": 30, "keepalive_interval": 10, "keepalive_probes": 3,
		}},
		"load_assignment": assignment(controlCluster, socketAddress(c.host, c.port)),
		"typed_extension_protocol_options": object{
			"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": object{
				"@type": apiPrefix + http2,
				"explicit_http_config": object{"http2_protocol_options": object{
					"connection_keepalive": object{"interval": "30s", "timeout": "10s"},
				}},
				"http_filters": list{
					tokenFilter(),
					typed("envoy.filters.http.upstream_codec", "extensions.filters.http.upstream_codec.v3.UpstreamCodec", nil),
				},
			},
		},
		"transport_socket": c.tls(),
	}
}

// tokenFilter puts the pod's token into each request. Only a secret from a file of secrets follows the token's rotation:
// Envoy watches the folder that the kubelet swaps.
func tokenFilter() object {
	return typed("envoy.filters.http.credential_injector", "extensions.filters.http.credential_injector.v3.CredentialInjector", object{
		"overwrite": true,
		"credential": typed("envoy.http.injected_credentials.generic", "extensions.http.injected_credentials.generic.v3.Generic", object{
			"header":              "authorization",
			"header_value_prefix": "Bearer ",
			"credential":          fileSecret(tokenSecret, sdsPath),
		}),
	})
}

// fileSecret names a secret that is in a file of secrets.
func fileSecret(name, path string) object {
	return object{
		"name": name,
		"sds_config": object{
			"path_config_source":   object{"path": tokenDir + "/" + path},
			"resource_api_version": "V3",
		},
	}
}

// tokenFile is the file of secrets that tokenFilter reads.
func tokenFile() (string, error) {
	return secretFile(tokenSecret, "generic_secret", object{"secret": object{"filename": tokenDir + "/" + tokenPath}})
}

// secretFile is a file of the one secret.
func secretFile(name, kind string, secret object) (string, error) {
	text, err := json.Marshal(object{"resources": list{object{
		"@type": apiPrefix + "extensions.transport_sockets.tls.v3.Secret",
		"name":  name,
		kind:    secret,
	}}})
	if err != nil {
		return "", fmt.Errorf("file of the secret %s: %w", name, err)
	}
	return string(text), nil
}

func (c controlPlane) tls() object {
	context := object{
		"tls_params": object{"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
	}
	maps.Copy(context, c.trust)
	return typed("envoy.transport_sockets.tls", "extensions.transport_sockets.tls.v3.UpstreamTlsContext", object{
		"sni":                c.host,
		"common_tls_context": context,
	})
}

// controlTrust is the certificates that the pod was injected with.
func (c Config) controlTrust() object {
	context := certifiedName(c.ControlHost)
	context["trusted_ca"] = object{"inline_string": pemText(c.CA)}
	return object{"validation_context": context}
}

// certifiedName accepts certificates for a host.
func certifiedName(host string) object {
	return object{"match_typed_subject_alt_names": list{object{
		"san_type": "DNS", "matcher": object{"exact": host},
	}}}
}

func pemText(certificates []*x509.Certificate) string {
	var b strings.Builder
	for _, cert := range certificates {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	}
	return b.String()
}
