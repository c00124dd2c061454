package build

import "context"

// runc is newer than Debian's, which cannot give a container a user namespace of
// its own and volumes too. It has a part in C, and knows seccomp by a library in C.
var runc = module{
	name: "runc", version: RuncVersion, tags: "seccomp", ldflags: "-X main.version=" + RuncVersion, c: true,
	programs: []program{{"runc", "github.com/opencontainers/runc"}},
}

var toBuildC = []debianProgram{
	{"gcc", "gcc"},
	{"/usr/include/stdlib.h", "libc6-dev"},
	{"/usr/include/seccomp.h", "libseccomp-dev"},
	{"pkg-config", "pkg-config"},
}

// Runc makes the program runc in Bin. What nodes run is Debian's, but for pods that
// ask for this one.
func (b *Builder) Runc(ctx context.Context) error {
	if err := b.installPackages(ctx, toBuildC); err != nil {
		return err
	}
	return b.module(ctx, runc)
}
