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
	gateway := proxy{
		nodeID: gatewayNodeID, nodeCluster: gatewayNodeID,
		overload:   edgeLimits(),
		statistics: statistics(gatewayStatistics, kinds(`listener\..*`, []string{"ssl.*", "downstream_(cx_(total|active|overflow)|global_cx_overflow)"}), object{"prefix": "overload."}),
		control: controlPlane{
			host: controlHostVariable, port: controlPortVariable, family: controlFamilyVariable,
			trust: object{"combined_validation_context": object{
				"default_validation_context":           certifiedName(controlHostVariable),
				"validation_context_sds_secret_config": fileSecret(authoritySecret, authoritySDS),
			}},
		},
		listeners: list{edgeStats()},
	}.bootstrap()
	gateway["layered_runtime"] = edgeRuntime()
	bootstrap, err := json.MarshalIndent(gateway, "", "  ")
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

// gatewayConnections is of Envoy's "Configuring Envoy as an edge proxy".
const gatewayConnections = 50_000

// edgeLimits keep the gateway alive under a load that nobody foresaw. As its memory fills it gives back what is free and
// lets go of connections that wait for nothing, then ends connections with the answer that is due, then refuses requests.
// Those that it has go on until that does not help: then the ones that hold most are reset, and no connection is accepted,
// rather than that the kernel ends all of them.
func edgeLimits() object {
	const heap = "envoy.resource_monitors.fixed_heap"
	limits := connectionLimit(gatewayConnections)
	limits["refresh_interval"] = "0.25s"
	limits["resource_monitors"] = append(limits["resource_monitors"].(list), typed(heap,
		"extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig", object{"max_heap_size_bytes": memoryLimitVariable}))
	// Streams are told apart by what they hold from 256 KiB on: a quarter of what one may.
	limits["buffer_factory_config"] = object{"minimum_account_to_track_power_of_two": 18}
	action := func(name string, trigger object) object {
		trigger["name"] = heap
		return object{"name": "envoy.overload_actions." + name, "triggers": list{trigger}}
	}
	at := func(share float64) object { return object{"threshold": object{"value": share}} }
	between := func(from, to float64) object {
		return object{"scaled": object{"scaling_threshold": from, "saturation_threshold": to}}
	}
	patience := action("reduce_timeouts", between(0.85, 0.95))
	patience["typed_config"] = object{
		"@type": apiPrefix + "config.overload.v3.ScaleTimersOverloadActionConfig",
		"timer_scale_factors": list{
			object{"timer": "HTTP_DOWNSTREAM_CONNECTION_IDLE", "min_timeout": "5s"},
			object{"timer": "TRANSPORT_SOCKET_CONNECT", "min_timeout": "2s"},
		},
	}
	// traffic-drain writes 1 there when it wants silent connections to end: stock Envoy has no other way that takes no request.
	const file = "envoy.resource_monitors.injected_resource"
	limits["resource_monitors"] = append(limits["resource_monitors"].(list), typed(file,
		"extensions.resource_monitors.injected_resource.v3.InjectedResourceConfig", object{"filename": adminDir + "/silent"}))
	patience["triggers"] = append(patience["triggers"].(list), object{"name": file, "threshold": object{"value": 1}})
	limits["actions"] = list{
		action("shrink_heap", at(0.85)), patience, action("disable_http_keepalive", at(0.9)),
		action("stop_accepting_requests", at(0.95)), action("reset_high_memory_stream", between(0.95, 1)),
		action("reject_incoming_connections", at(0.98)),
	}
	return limits
}

// edgeRuntime has a connection that sends many requests at once wait for the others after each (CVE-2023-44487). One that
// cancels more than half of its first 500 within a second each is closed, by Envoy's default.
func edgeRuntime() object {
	return object{"layers": list{object{"name": "edge", "static_layer": object{
		"http.max_requests_per_io_cycle": 1,
		// A path with escapes, and a wildcard, is a regular expression; Envoy's own limit is that of 28 escapes. The control plane takes
		// none of more than 8,000 bytes, and one above the limit would have Envoy refuse the routes of all hosts.
		"re2.max_program_size.error_level": 10_000,
		// While it drains, connections end with an answer. With this Envoy ends by itself, within its drain time, those that are in
		// use and have no more answers to come: WebSockets.
		"envoy.reloadable_features.use_connection_event_drain": false,
	}}}}
}

// edgeStats is answered whatever the load is: a gateway that refuses requests still has those that it serves, and the
// kubelet must not send the others' to the next one.
func edgeStats() object {
	l := statsListener(statsPortVariable)
	l["bypass_overload_manager"] = true
	return l
}
