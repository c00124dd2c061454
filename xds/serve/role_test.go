package serve

import (
	"testing"

	"google.golang.org/grpc/codes"
)

// TestRoles: a private key goes to the pods of the gateway's ServiceAccount, and to nobody who only says that he is one.
func TestRoles(t *testing.T) {
	gateway := pod("gateway-0")
	gateway.Namespace, gateway.ServiceAccount = "traffic-system", "traffic-ingress"
	// Another namespace's, of the same name.
	impostor := pod("impostor")
	impostor.ServiceAccount = "traffic-ingress"
	s := startServer(t, func(c *Config) {
		c.GatewayAccount = "traffic-system/traffic-ingress"
		c.Authenticator = fakeTokens{"token-a": pod("a"), "token-gateway": gateway, "token-impostor": impostor}
	})
	s.Publish(set(cluster("mesh", 1)), nil)
	s.PublishGateway(set(secret("shop/web", 1)), nil)

	as := func(id, token string) *proxy {
		p := s.open(t, s.dial(t, s.tls()), "", "Bearer "+token)
		p.id = id
		return p
	}
	for _, test := range []struct{ id, token, secret, cluster string }{
		{"a.default", "token-a", "secret: -shop/web", "cluster: mesh"},
		{"impostor.default", "token-impostor", "secret: -shop/web", "cluster: mesh"},
		{GatewayNodeID, "token-gateway", "secret: shop/web", "cluster: -mesh"},
	} {
		p := as(test.id, test.token)
		p.subscribe(secrets, "shop/web")
		p.wantAll(test.secret)
		p.subscribe(clusters, "mesh")
		p.wantAll(test.cluster)
	}
	for id, token := range map[string]string{GatewayNodeID: "token-impostor", "gateway-0.traffic-system": "token-gateway"} {
		p := as(id, token)
		p.subscribe(secrets, "shop/web")
		if code := p.ended(); code != codes.Unauthenticated {
			t.Errorf("%s with %s: %v", id, token, code)
		}
	}
}
