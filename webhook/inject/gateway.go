package inject

import (
	"encoding/json"
	"fmt"
)

// The ingress gateway is a Deployment of the chart, not an injected pod. Its Envoy is started with the same bootstrap, but
// for what depends on the installation: the kubelet puts that in, from variables of the container.
const (
	gatewayNodeID = "traffic-ingress"

	controlHostVariable   = "$(CONTROL_HOST)"
	controlPortVariable   = "$(CONTROL_PORT)"
	controlFamilyVariable = "$(CONTROL_FAMILY)"
	statsPortVariable     = "$(STATS_PORT)"
	memoryLimitVariable   = "$(MEMORY_LIMIT)"
)

// The authority is read from a file, so that a renewed one is followed: a gateway is no part of what must be rolled.
const (
	authoritySecret = "authority"
	authorityPath   = "ca.crt"
	authoritySDS    = "ca-sds.json"
)

// gatewayStatistics are what is asked about strangers' requests and connections; draining waits for the active ones.
var gatewayStatistics = []string{
	"downstream_rq_(total|active|completed|time|timeout|overload_close|[1-5]xx)",
	"downstream_cx_(total|active|http1_total|http2_total|ssl_total|idle_timeout|overload_disable_keepalive|protocol_error|rx_bytes_total|tx_bytes_total)",
}

// GatewayFiles returns what the chart starts the gateway's Envoy with, by the name of the file there: the bootstrap, and the
// two files of secrets, which Envoy reads at /var/run/secrets/kubernetes.io/serviceaccount beside the token and ca.crt.
func GatewayFiles() (map[string]string, error) {
	bootstrap, err := json.MarshalIndent(proxy{
		nodeID: gatewayNodeID, nodeCluster: gatewayNodeID,
		overload:   edgeLimits(),
		statistics: statistics(gatewayStatistics, kinds(`listener\..*`, []string{"ssl.*", "downstream_cx_(total|active|overflow)"}), object{"prefix": "overload."}),
		control: controlPlane{
			host: controlHostVariable, port: controlPortVariable, family: controlFamilyVariable,
			trust: object{"combined_validation_context": object{
				"default_validation_context":           certifiedName(controlHostVariable),
				"validation_context_sds_secret_config": fileSecret(authoritySecret, authoritySDS),
			}},
		},
		listeners: list{statsListener(statsPortVariable)},
	}.bootstrap(), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("gateway's bootstrap: %w", err)
	}
	token, err := tokenFile()
	if err != nil {
		return nil, err
	}
	authority, err := secretFile(authoritySecret, "validation_context", object{
		"trusted_ca": object{"filename": tokenDir + "/" + authorityPath},
	})
	if err != nil {
		return nil, err
	}
	return map[string]string{
		"ingress-bootstrap.json": string(bootstrap) + "\n",
		"ingress-token-sds.json": token + "\n",
		"ingress-ca-sds.json":    authority + "\n",
	}, nil
}

// edgeLimits keep the gateway alive under a load that nobody foresaw. Before its memory is full it gives back what is free,
// then ends connections with the answer that is due, and at last refuses requests: those that it has go on.
func edgeLimits() object {
	limits := connectionLimit()
	limits["refresh_interval"] = "0.25s"
	const heap = "envoy.resource_monitors.fixed_heap"
	limits["resource_monitors"] = append(limits["resource_monitors"].(list), typed(heap,
		"extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig", object{"max_heap_size_bytes": memoryLimitVariable}))
	action := func(name string, share float64) object {
		return object{"name": "envoy.overload_actions." + name, "triggers": list{object{"name": heap, "threshold": object{"value": share}}}}
	}
	limits["actions"] = list{
		action("shrink_heap", 0.85), action("disable_http_keepalive", 0.9), action("stop_accepting_requests", 0.95),
	}
	return limits
}
