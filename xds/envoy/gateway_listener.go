package envoy

import (
	"fmt"
	"maps"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	proxyprotocolv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/proxy_protocol/v3"
	inspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kubernetes-traffic-manager/traffic/xds/ingress"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// Names of the gateway's listeners and RouteConfigurations.
const (
	plainName          = "http"
	secureListenerName = "https"
	// defaultName cannot be a Secret's: those have a namespace and a name.
	defaultName = "https/default"
)

// beginTimeout is for a client to begin a request, or a handshake: one that is silent takes room of the limit of connections.
const beginTimeout = 10 * time.Second

// handshakeTimeout is for a client to become one that speaks TLS.
const handshakeTimeout = 10 * time.Second

// A TLSVersion is the lowest that clients may speak.
type TLSVersion string

// The values of TLSVersion.
const (
	TLS12 TLSVersion = "1.2"
	TLS13 TLSVersion = "1.3"
)

// Set parses the value of a flag.
func (v *TLSVersion) Set(text string) error {
	switch value := TLSVersion(text); value {
	case TLS12, TLS13:
		*v = value
		return nil
	}
	return fmt.Errorf("TLS version %q is not %s or %s", text, TLS12, TLS13)
}

func (v *TLSVersion) String() string { return string(*v) }

// A gatewayCertificate is a Certificate with what was made of it, once and for all: the fragment of the listener that has its
// filter chain.
type gatewayCertificate struct {
	*ingress.Certificate
	chain []byte
}

// certificateName names a certificate's Secret resource.
func certificateName(secret mesh.Object) string { return secret.Namespace + "/" + secret.Name }

// secureName names its RouteConfiguration and its connection manager.
func secureName(certificate string) string { return "https/" + certificate }

func sdsSecret(name string, pair ingress.Pair) *tlsv3.Secret {
	inline := func(text []byte) *corev3.DataSource {
		return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: text}}
	}
	return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
		CertificateChain: inline(pair.Chain), PrivateKey: inline(pair.Key),
	}}}
}

// address is where the gateway binds a port.
func (g *Gateway) address(port uint16) *corev3.Address {
	socket := &corev3.SocketAddress{Address: "0.0.0.0", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)}}
	if g.config.IPv6 {
		socket.Address, socket.Ipv4Compat = "::", true
	}
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: socket}}
}

// plainListener is there from the start, and stays as it is.
func (a *application) plainListener() {
	if _, there := a.held[Key{resourcev3.ListenerType, plainName}]; there {
		return
	}
	manager, err := pack(a.gatewayManager(plainName))
	if err != nil {
		a.fail(mesh.Object{}, plainName, err)
		return
	}
	a.put(NewResource(mesh.Object{}, plainName, &listenerv3.Listener{
		Name: plainName, Address: a.address(a.config.HTTPPort), StatPrefix: gatewayStatPrefix,
		TrafficDirection: corev3.TrafficDirection_INBOUND, ListenerFilters: a.listenerFilters,
		ListenerFiltersTimeout: durationpb.New(beginTimeout),
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name: connectionManager, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: manager},
		}}}},
	}))
}

func listenerFilter(name string, message proto.Message) (*listenerv3.ListenerFilter, error) {
	config, err := pack(message)
	if err != nil {
		return nil, err
	}
	return &listenerv3.ListenerFilter{Name: name, ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: config}}, nil
}

// peeked is how much Envoy sets aside for what a client says first, and doubles as it needs; its own 16 KiB would be most of
// what a silent connection costs.
const peeked = 512

// firstFilters wait for what a client says, in the name of a load balancer first. On the plain listener, too, where no TLS is:
// http_inspector drops a target that is too long instead of leaving it to be answered.
func (c GatewayConfig) firstFilters() ([]*listenerv3.ListenerFilter, error) {
	inspector, err := listenerFilter("envoy.filters.listener.tls_inspector", &inspectorv3.TlsInspector{InitialReadBufferSize: wrapperspb.UInt32(peeked)})
	if err != nil || !c.ProxyProtocol {
		return []*listenerv3.ListenerFilter{inspector}, err
	}
	proxy, err := listenerFilter("envoy.filters.listener.proxy_protocol", &proxyprotocolv3.ProxyProtocol{})
	return []*listenerv3.ListenerFilter{proxy, inspector}, err
}

const connectionManager = "envoy.filters.network.http_connection_manager"

// secureListener is there while there is a certificate: a listener without a filter chain is none. A client that asks for an
// unknown host, or for none, gets the default certificate; without one the handshake fails, since no certificate could be
// right, and a wrong one would only tell that the gateway is here.
func (a *application) secureListener() {
	a.begin(secureListenerName)
	chains, err := a.chains()
	if err != nil {
		a.fail(mesh.Object{}, secureListenerName, err)
		return
	}
	if len(chains) == 0 {
		a.remove(Key{resourcev3.ListenerType, secureListenerName})
		return
	}
	rest, err := a.besideChains()
	if err != nil {
		a.fail(mesh.Object{}, secureListenerName, err)
		return
	}
	a.put(assembled(mesh.Object{}, secureListenerName, resourcev3.ListenerType, append(chains, rest)), nil)
}

// besideChains is the fragment of the listener with all else.
func (a *application) besideChains() ([]byte, error) {
	chains := map[string]string{}
	for secret, c := range a.certificates {
		for _, host := range c.Hosts {
			chains[host] = secureName(certificateName(secret))
		}
	}
	matcher, err := serverNames(chains)
	if err != nil {
		return nil, err
	}
	return marshal(&listenerv3.Listener{
		Name: secureListenerName, Address: a.address(a.config.HTTPSPort), StatPrefix: gatewayStatPrefix,
		TrafficDirection: corev3.TrafficDirection_INBOUND, ListenerFilters: a.listenerFilters,
		ListenerFiltersTimeout: durationpb.New(beginTimeout), FilterChainMatcher: matcher,
	})
}

// chains are the fragments of the listener that have its filter chains.
func (a *application) chains() ([][]byte, error) {
	var fragments [][]byte
	for _, secret := range slices.SortedFunc(maps.Keys(a.certificates), mesh.Object.Compare) {
		if c := a.certificates[secret]; len(c.Hosts) > 0 {
			if err := a.makeChain(c); err != nil {
				return nil, err
			}
			fragments = append(fragments, c.chain)
		}
		if secret == a.config.DefaultCertificate {
			chain, err := a.chain(certificateName(secret), defaultName)
			if err != nil {
				return nil, err
			}
			fragment, err := marshal(&listenerv3.Listener{DefaultFilterChain: chain})
			if err != nil {
				return nil, err
			}
			fragments = append(fragments, fragment)
		}
	}
	return fragments, nil
}

// makeChain makes the fragment of a certificate, if there is none yet.
func (a *application) makeChain(c *gatewayCertificate) error {
	if c.chain != nil {
		return nil
	}
	name := certificateName(c.Secret)
	chain, err := a.chain(name, secureName(name))
	if err != nil {
		return err
	}
	c.chain, err = marshal(&listenerv3.Listener{FilterChains: []*listenerv3.FilterChain{chain}})
	return err
}

// chain is the filter chain of a certificate. It sees to the connection manager that the chain names.
func (a *application) chain(certificate, manager string) (*listenerv3.FilterChain, error) {
	config, err := pack(a.gatewayManager(manager))
	if err != nil {
		return nil, err
	}
	a.put(NewResource(mesh.Object{}, manager, &corev3.TypedExtensionConfig{Name: manager, TypedConfig: config}))
	context, err := pack(a.tlsContext(certificate))
	if err != nil {
		return nil, err
	}
	return &listenerv3.FilterChain{
		Name: manager,
		Filters: []*listenerv3.Filter{{Name: manager, ConfigType: &listenerv3.Filter_ConfigDiscovery{
			ConfigDiscovery: &corev3.ExtensionConfigSource{ConfigSource: ads(), TypeUrls: []string{config.GetTypeUrl()}},
		}}},
		TransportSocket: &corev3.TransportSocket{
			Name: "envoy.transport_sockets.tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: context},
		},
		TransportSocketConnectTimeout: durationpb.New(handshakeTimeout),
	}, nil
}

// tlsContext leaves to Envoy what nobody decided: TLS 1.2 and up, with ciphers that have forward secrecy and are
// authenticated.
func (g *Gateway) tlsContext(certificate string) *tlsv3.DownstreamTlsContext {
	context := &tlsv3.CommonTlsContext{
		AlpnProtocols:                  []string{"h2", "http/1.1"},
		TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{{Name: certificate, SdsConfig: ads()}},
	}
	if g.config.MinimumTLS == TLS13 || len(g.config.Ciphers) > 0 {
		context.TlsParams = &tlsv3.TlsParameters{CipherSuites: g.config.Ciphers}
		if g.config.MinimumTLS == TLS13 {
			context.TlsParams.TlsMinimumProtocolVersion = tlsv3.TlsParameters_TLSv1_3
			context.TlsParams.TlsMaximumProtocolVersion = tlsv3.TlsParameters_TLSv1_3
		}
	}
	return &tlsv3.DownstreamTlsContext{CommonTlsContext: context}
}
