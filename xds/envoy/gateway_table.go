package envoy

import (
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// A routeConfiguration is a RouteConfiguration in the making, from virtual hosts that are marshalled already.
type routeConfiguration struct {
	name  string
	value []byte
}

// Field numbers of envoy.config.route.v3.RouteConfiguration.
const (
	nameField        = 1
	virtualHostField = 2
	ignorePortField  = 14
)

func newRouteConfiguration(name string) *routeConfiguration {
	c := &routeConfiguration{name: name}
	c.value = protowire.AppendTag(c.value, nameField, protowire.BytesType)
	c.value = protowire.AppendString(c.value, name)
	// A client that came to another port names it in its Host.
	c.value = protowire.AppendTag(c.value, ignorePortField, protowire.VarintType)
	c.value = protowire.AppendVarint(c.value, protowire.EncodeBool(true))
	return c
}

func (c *routeConfiguration) add(virtualHost []byte) {
	if virtualHost == nil {
		return
	}
	c.value = protowire.AppendTag(c.value, virtualHostField, protowire.BytesType)
	c.value = protowire.AppendBytes(c.value, virtualHost)
}

func (c *routeConfiguration) resource(owner mesh.Object) Resource {
	return marshalled(owner, c.name, resourcev3.RouteType, c.value)
}
