package build

import "context"

// pebble is an ACME server for tests, by those who make Let's Encrypt.
var pebble = module{
	name: "pebble", version: PebbleVersion, ldflags: "-X main.version=" + PebbleVersion,
	programs: []program{{"pebble", "github.com/letsencrypt/pebble/v2/cmd/pebble"}},
}

// Pebble makes the program pebble in Bin. The sample of ACME and the demo alone
// need it: a cluster comes up without.
func (b *Builder) Pebble(ctx context.Context) error { return b.module(ctx, pebble) }
