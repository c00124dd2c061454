package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A caller is somebody who asks the control plane for configuration.
type caller struct {
	control *control
	// creds is TLS 1.3 without it.
	creds credentials.TransportCredentials
	// token goes into the authorization header; without it there is none.
	token string
	node  string
}

// connect opens a connection of the caller's own. from tells its address when it is made.
func (c caller) connect(t *testing.T) (conn *grpc.ClientConn, from func() string) {
	t.Helper()
	creds := c.creds
	if creds == nil {
		creds = c.control.tls(tls.VersionTLS13)
	}
	watch := &observed{control: c.control}
	conn, err := grpc.NewClient("passthrough:///"+c.control.port(t, "xds"),
		grpc.WithTransportCredentials(creds), grpc.WithContextDialer(watch.dial))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn, watch.local
}

func (c caller) context(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	if c.token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.token)
}

func (c *control) tls(version uint16) credentials.TransportCredentials {
	return credentials.NewTLS(&tls.Config{RootCAs: c.roots, ServerName: c.name, MaxVersion: version})
}

// stream is a stream of either kind of ADS.
type stream[Request, Response any] interface {
	Send(request *Request) error
	Recv() (*Response, error)
	grpc.ClientStream
}

// ask sends the requests and counts the messages until the stream ends.
func ask[Request, Response any](s stream[Request, Response], err error, requests ...*Request) (messages int, end error) {
	if err != nil {
		return 0, err
	}
	for _, r := range requests {
		if err := s.Send(r); err != nil {
			break // Recv tells why
		}
	}
	for {
		if _, err := s.Recv(); err != nil {
			return messages, err
		}
		messages++
	}
}

func (c caller) delta(t *testing.T, conn *grpc.ClientConn) (messages int, end error) {
	t.Helper()
	client := discoveryv3.NewAggregatedDiscoveryServiceClient(conn)
	s, err := client.DeltaAggregatedResources(c.context(t))
	node := &corev3.Node{Id: c.node}
	return ask(s, err,
		&discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: resourcev3.ClusterType},
		&discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: resourcev3.ListenerType},
		&discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: resourcev3.SecretType, ResourceNamesSubscribe: []string{"any"}},
	)
}

func (c caller) stateOfTheWorld(t *testing.T, conn *grpc.ClientConn) (messages int, end error) {
	t.Helper()
	client := discoveryv3.NewAggregatedDiscoveryServiceClient(conn)
	s, err := client.StreamAggregatedResources(c.context(t))
	return ask(s, err, &discoveryv3.DiscoveryRequest{Node: &corev3.Node{Id: c.node}, TypeUrl: resourcev3.ClusterType})
}

// TestOnlyAPodGetsItsOwnConfiguration calls the installed control plane as those do who may not have any configuration.
func TestOnlyAPodGetsItsOwnConfiguration(t *testing.T) {
	client := connect(t)
	control := reachControl(t, client)
	namespace := createNamespace(t, client)
	for _, pod := range []string{"one", "two", "gone"} {
		createPod(t, client, namespace, pod, nil)
	}
	node := "one." + namespace
	good := requestToken(t, client, namespace, "one", "traffic-control")
	gone := requestToken(t, client, namespace, "gone", "traffic-control")
	if err := client.CoreV1().Pods(namespace).Delete(t.Context(), "gone", *metav1.NewDeleteOptions(0)); err != nil {
		t.Fatal(err)
	}
	other := requestToken(t, client, namespace, "one", "another")
	unbound := requestToken(t, client, namespace, "", "traffic-control")
	expired := reissue(t, good, time.Now().Add(-time.Minute))
	forged := good[:len(good)-8] + "AAAAAAAA"

	for name, test := range map[string]struct {
		caller caller
		ask    func(caller, *testing.T, *grpc.ClientConn) (int, error)
		code   codes.Code
		reason string
	}{
		"no token":                   {caller{node: node}, caller.delta, codes.Unauthenticated, "no_token"},
		"a token for somebody else":  {caller{node: node, token: other}, caller.delta, codes.Unauthenticated, "token"},
		"an expired token":           {caller{node: node, token: expired}, caller.delta, codes.Unauthenticated, "token"},
		"a token with a wrong seal":  {caller{node: node, token: forged}, caller.delta, codes.Unauthenticated, "token"},
		"a token without a pod":      {caller{node: node, token: unbound}, caller.delta, codes.Unauthenticated, "token"},
		"the token of a deleted pod": {caller{node: "gone." + namespace, token: gone}, caller.delta, codes.Unauthenticated, "token"},
		"another pod's node id":      {caller{node: "two." + namespace, token: good}, caller.delta, codes.Unauthenticated, "node_id"},
		"the gateway's node id":      {caller{node: "traffic-ingress", token: good}, caller.delta, codes.Unauthenticated, "node_id"},
		"no node id":                 {caller{token: good}, caller.delta, codes.Unauthenticated, "node_id"},
		"state of the world":         {caller{node: node, token: good}, caller.stateOfTheWorld, codes.Unimplemented, "state_of_the_world"},
		"plain text":                 {caller{node: node, token: good, creds: insecure.NewCredentials()}, caller.delta, codes.Unavailable, "tls"},
		"TLS 1.2":                    {caller{node: node, token: good, creds: control.tls(tls.VersionTLS12)}, caller.delta, codes.Unavailable, "tls"},
	} {
		t.Run(name, func(t *testing.T) {
			test.caller.control = control
			before := control.refusals(t)[test.reason]
			conn, from := test.caller.connect(t)
			messages, err := test.ask(test.caller, t, conn)
			if messages != 0 || status.Code(err) != test.code {
				t.Errorf("got %d messages, then %v; want none, then %v", messages, err, test.code)
			}
			control.logged(t, from(), test.reason)
			if after := control.refusals(t)[test.reason]; after <= before {
				t.Errorf("the refusals for %s were %v, and are %v", test.reason, before, after)
			}
		})
	}
	t.Run("its own", func(t *testing.T) {
		control.wantConfiguration(t, caller{control: control, node: node, token: good})
	})
	t.Run("its own, signed as the expired one was", func(t *testing.T) {
		control.wantConfiguration(t, caller{control: control, node: node, token: reissue(t, good, time.Now().Add(time.Minute))})
	})
	t.Run("other services", func(t *testing.T) { otherServices(t, caller{control: control, token: good}) })
	control.neverLogged(t, []string{good, gone, other, unbound, expired})
}

// wantConfiguration checks that a caller is given clusters and listeners. There are always those of the Kubernetes API.
func (c *control) wantConfiguration(t *testing.T, who caller) {
	t.Helper()
	conn, _ := who.connect(t)
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(who.context(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, typeURL := range []string{resourcev3.ClusterType, resourcev3.ListenerType} {
		err := s.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: who.node}, TypeUrl: typeURL})
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if got.GetTypeUrl() != typeURL || len(got.GetResources()) == 0 {
			t.Errorf("got %d of %s, want some of %s", len(got.GetResources()), got.GetTypeUrl(), typeURL)
		}
		err = s.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResponseNonce: got.GetNonce()})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// otherServices checks that nothing but ADS answers on its port, not even to a pod.
func otherServices(t *testing.T, who caller) {
	conn, _ := who.connect(t)
	for _, method := range []string{
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
		"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
		"/grpc.health.v1.Health/Check",
		"/grpc.health.v1.Health/Watch",
		"/envoy.service.discovery.v2.AggregatedDiscoveryService/DeltaAggregatedResources",
		"/envoy.service.discovery.v2.AggregatedDiscoveryService/StreamAggregatedResources",
		"/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters",
		"/envoy.service.cluster.v3.ClusterDiscoveryService/FetchClusters",
		"/envoy.service.endpoint.v3.EndpointDiscoveryService/DeltaEndpoints",
		"/envoy.service.listener.v3.ListenerDiscoveryService/DeltaListeners",
		"/envoy.service.route.v3.RouteDiscoveryService/DeltaRoutes",
		"/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
		"/envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus",
	} {
		s, err := conn.NewStream(who.context(t), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
		if err == nil {
			err = errors.Join(s.SendMsg(&emptypb.Empty{}), s.CloseSend())
		}
		if err == nil || errors.Is(err, io.EOF) {
			err = s.RecvMsg(&emptypb.Empty{})
		}
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("%s: %v, want Unimplemented", method, err)
		}
	}
}
