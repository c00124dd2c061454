package serve

// GatewayNodeID is the node id of every replica of the ingress gateway. Users' queries name it.
const GatewayNodeID = "traffic-ingress"

// A role says what a proxy is sent. It follows from the ServiceAccount that the token proves, as all of an Identity does:
// nobody else gets the private keys that gateways get.
func (s *Server) role(id Identity) (Identity, *store) {
	if account := id.Namespace + "/" + id.ServiceAccount; s.config.GatewayAccount == "" || account != s.config.GatewayAccount {
		return id, s.store
	}
	id.NodeID = GatewayNodeID
	return id, s.gatewayStore
}

// PublishGateway is Publish for gateways: they get nothing of what sidecars get, and sidecars nothing of theirs.
func (s *Server) PublishGateway(u Update, applied func(Applied)) {
	s.publish(s.gatewayStore, u, applied)
}

// mostNames is how many resources a request may name before it is known whose it is.
func (s *Server) mostNames() int { return max(s.store.mostNames(), s.gatewayStore.mostNames()) }
