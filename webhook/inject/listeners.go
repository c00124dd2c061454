package inject

import (
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
)

const (
	hcm    = "envoy.filters.network.http_connection_manager"
	hcmAPI = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
)

// blockedBody is for the person who wonders about the 404.
const blockedBody = "blocked by traffic-envoy: no traffic.port label opens this address\n"

// socketAddress is a host, with a port that may be a variable that the kubelet puts in.
func socketAddress(host string, port any) object {
	return object{"socket_address": object{"address": host, "port_value": port}}
}

// outboundListener receives every redirected connection. One whose address has a listener of its own, from the control
// plane, is handed to that; what stays here is the check of traffic-verify, and connections that no label opens.
//
// It binds the two loopback addresses, to which the kernel redirects connections that start in the pod, and no wildcard:
// so the proxy is unreachable from outside the pod even where the redirect's own rule against that is missing. The bind
// is a free one, because an address that the namespace does not have would otherwise end Envoy: ::1 is missing where
// net.ipv6.conf.all.disable_ipv6 is set, and [::] with ipv4_compat, which would start there, listens to the world. Where
// the kernel has no IPv6 at all Envoy rejects any IPv6 address in its configuration ("malformed IP address"), a wildcard
// too; only Config.IPv6 helps.
func (c Config) outboundListener() object {
	l := object{
		"name":             "outbound",
		"address":          socketAddress("127.0.0.1", c.ProxyPort),
		"freebind":         true,
		"use_original_dst": true,
		"listener_filters": list{
			typed("envoy.filters.listener.original_dst", "extensions.filters.listener.original_dst.v3.OriginalDst", nil),
		},
		"filter_chains":        list{c.verifyChain()},
		"default_filter_chain": blockChain("blocked"),
		"access_log":           silentConnections(),
	}
	if c.IPv6 {
		l["additional_addresses"] = list{object{"address": socketAddress("::1", c.ProxyPort)}}
	}
	if c.OutboundPolicy == Passthrough {
		// A connection to the proxy itself was not redirected. Forwarded, it would come back for ever.
		local := blockChain("not-redirected")
		local["filter_chain_match"] = c.destinations("127.0.0.0", 8, "::1", 128)
		l["filter_chains"] = list{c.verifyChain(), local}
		l["default_filter_chain"] = passthroughChain()
	}
	return l
}

// destinations matches the address that was dialled. It names no port: Envoy looks at ports first, and then sees no
// chain without one.
func (c Config) destinations(ipv4 string, bits4 int, ipv6 string, bits6 int) object {
	ranges := list{object{"address_prefix": ipv4, "prefix_len": bits4}}
	if c.IPv6 {
		ranges = append(ranges, object{"address_prefix": ipv6, "prefix_len": bits6})
	}
	return object{"prefix_ranges": ranges}
}

// verifyChain answers traffic-verify with the pod's name, whatever the policy is: it proves that a connection of this pod
// reaches this Envoy.
func (c Config) verifyChain() object {
	chain := answerChain("verify", object{"status": 200, "body": object{"inline_string": nodeID}}, nil)
	chain["filter_chain_match"] = c.destinations(redirect.VerifyIPv4, 32, redirect.VerifyIPv6, 128)
	return chain
}

func blockChain(name string) object {
	return answerChain(name, object{"status": 404, "body": object{"inline_string": blockedBody}}, blockedRequests())
}

// answerChain gives every request the same answer, on a connection of its own: one that stays would not see its port
// opened. There is no protocol detection in front of it, which would hold a client that waits for the server to speak
// first; such a client is closed after a second. The close is delayed a little, or a client that is still sending would
// see a reset and not the answer.
func answerChain(name string, answer object, accessLog list) object {
	config := object{
		"stat_prefix":                  name,
		"common_http_protocol_options": object{"idle_timeout": "1s", "max_requests_per_connection": 1},
		"request_headers_timeout":      "1s",
		"stream_idle_timeout":          "1s",
		"delayed_close_timeout":        "0.2s",
		"drain_timeout":                "0.2s",
		"route_config": object{"name": name, "virtual_hosts": list{object{
			"name": name, "domains": list{"*"},
			"routes": list{object{"match": object{"prefix": "/"}, "direct_response": answer}},
		}}},
		"http_filters": list{router()},
	}
	if accessLog != nil {
		config["access_log"] = accessLog
	}
	return object{"name": name, "filters": list{typed(hcm, hcmAPI, config)}}
}

func router() object {
	return typed("envoy.filters.http.router", "extensions.filters.http.router.v3.Router", nil)
}

func passthroughChain() object {
	return object{"name": "passthrough", "filters": list{
		typed("envoy.filters.network.tcp_proxy", "extensions.filters.network.tcp_proxy.v3.TcpProxy", object{
			"stat_prefix":  "passthrough",
			"cluster":      passthroughCluster,
			"idle_timeout": "0s",
		}),
	}}
}

// statsListener is all of the admin interface that others may see: readiness for the kubelet, statistics for Prometheus.
func statsListener(port any) object {
	get := func(path string) object {
		return object{
			"match": object{"path": path, "headers": list{object{"name": ":method", "string_match": object{"exact": "GET"}}}},
			"route": object{"cluster": adminClusterName},
		}
	}
	return object{
		"name":                     "stats",
		"address":                  socketAddress(podIP, port),
		"ignore_global_conn_limit": true,
		"default_filter_chain": object{"filters": list{typed(hcm, hcmAPI, object{
			"stat_prefix": "stats",
			"route_config": object{"name": "stats", "virtual_hosts": list{object{
				"name": "stats", "domains": list{"*"},
				"routes": list{get("/ready"), get("/stats/prometheus")},
			}}},
			"http_filters": list{router()},
		})}},
	}
}

// The columns are those of every other line of the access log: time, method, path, protocol, status, duration in ms, bytes
// sent to the client, Envoy's flags; then where the connection wanted to go, and why it did not.
const (
	httpFormat  = "[%START_TIME%] %REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL% %RESPONSE_CODE% " + blockedTail + " %REQ(:AUTHORITY)%\n"
	tcpFormat   = "[%START_TIME%] - %DOWNSTREAM_LOCAL_ADDRESS% TCP - " + blockedTail + " this address\n"
	blockedTail = "%DURATION% %BYTES_SENT% %RESPONSE_FLAGS% %DOWNSTREAM_LOCAL_ADDRESS% blocked: no label opens"
)

// blockedRequests is one line per blocked request; what was no HTTP has no method.
func blockedRequests() list {
	withMethod := func(present bool) object {
		return object{"header_filter": object{"header": object{"name": ":method", "present_match": present}}}
	}
	return list{logLine(httpFormat, withMethod(true)), logLine(tcpFormat, withMethod(false))}
}

// silentConnections is one line per connection on which the client said nothing, so that there was no request.
func silentConnections() list {
	return list{logLine(tcpFormat, object{"extension_filter": typed("envoy.access_loggers.extension_filters.cel",
		"extensions.access_loggers.filters.cel.v3.ExpressionFilter", object{"expression": "request.total_size == 0"})})}
}

func logLine(format string, filter object) object {
	line := typed("envoy.access_loggers.stdout", "extensions.access_loggers.stream.v3.StdoutAccessLog", object{
		"log_format": object{"text_format_source": object{"inline_string": format}},
	})
	line["filter"] = filter
	return line
}
