package ingress

import (
	"golang.org/x/net/http2"
)

// conversations are of frames that nobody needs, or nobody may send.
func conversations() []hostile2 {
	stream := func(name, rfc, want string, send func(*client2)) hostile2 {
		return hostile2{name: name, rfc: rfc, want: want, send: func(f *client2) {
			f.did(f.WriteSettings())
			send(f)
		}}
	}
	return []hostile2{
		stream("stream of a server's number", "9113 5.1.1", "closed", func(f *client2) { f.open(2, true, request()...) }),
		stream("stream 0", "9113 6.2", "closed", func(f *client2) { f.open(0, true, request()...) }),
		stream("data of a stream that is not there", "9113 5.1", "closed", func(f *client2) { f.did(f.WriteData(1, true, []byte("x"))) }),
		stream("frame that is too large", "9113 4.2", "closed", func(f *client2) { f.did(f.WriteData(1, true, make([]byte, 17<<10))) }),
		stream("padding longer than the frame", "9113 6.1", "closed", func(f *client2) {
			f.open(1, false, asked(":method", "POST")...)
			f.did(f.WriteRawFrame(http2.FrameData, http2.FlagDataPadded, 1, []byte{200, 'x'}))
		}),
		stream("another frame within fields", "9113 6.10", "closed", func(f *client2) {
			f.did(f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.fields(request()...)}))
			f.did(f.WritePing(false, [8]byte{}))
		}),
		stream("server push by a client", "9113 8.4", "closed", func(f *client2) {
			f.did(f.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: f.fields(request()...), EndHeaders: true}))
		}),
		stream("window grows by nothing", "9113 6.9", "closed", func(f *client2) { f.did(f.WriteWindowUpdate(0, 0)) }),
		stream("window beyond 31 bits", "9113 6.9.1", "closed", func(f *client2) { f.did(f.WriteWindowUpdate(0, 1<<31-1)) }),
		stream("initial window beyond 31 bits", "9113 6.5.2", "closed", func(f *client2) {
			f.did(f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31}))
		}),
		stream("field of an index that is not there", "7541 2.3.3", "closed", func(f *client2) {
			f.did(f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0x80, 0x80, 0x80, 0x01}, EndStream: true, EndHeaders: true}))
		}),
		stream("table beyond its size", "7541 6.3", "closed", func(f *client2) {
			f.did(f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x3f, 0xe1, 0xff, 0x03}, EndStream: true, EndHeaders: true}))
		}),
		// One byte on the wire is 4 KiB of fields.
		stream("fields that are small on the wire", "9113 10.5.1", "reset INTERNAL_ERROR", func(f *client2) {
			pairs := request("x", long(4000))
			for range 60 {
				pairs = append(pairs, "x", long(4000))
			}
			f.open(1, true, pairs...)
		}),
		// The stream is reset first. What ends is looked at by another, which there is not.
		stream("fields without an end", "9113 10.5", "closed", func(f *client2) {
			f.did(f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.fields(request()...)}))
			for i := 0; i < 100_000 && f.failed == nil; i++ {
				f.did(f.WriteContinuation(1, false, f.fields("x", long(100))))
			}
		}).of(3),
		stream("empty continuations", "9113 10.5", "closed", func(f *client2) {
			f.did(f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.fields(request()...)}))
			for i := 0; i < 100_000 && f.failed == nil; i++ {
				f.did(f.WriteContinuation(1, false, nil))
			}
		}),
		stream("empty data", "9113 10.5", "closed", func(f *client2) {
			f.open(1, false, asked(":method", "POST")...)
			for i := 0; i < 100_000 && f.failed == nil; i++ {
				f.did(f.WriteData(1, false, nil))
			}
		}),
		stream("canceled as soon as asked", "9113 10.5", "closed", func(f *client2) {
			for i := uint32(3); i < 20_000 && f.failed == nil; i += 2 {
				f.open(i, true, request()...)
				f.did(f.WriteRSTStream(i, http2.ErrCodeCancel))
			}
		}).saw(anything).but("closed"),
		// Each is answered, and the answers are not read. Expected: closed, as more than 1,000 answers wait. Where the gateway finds
		// out first that it cannot write, it reads no more instead: what it holds of the client is bounded all the same.
		stream("pings", "9113 10.5", "closed or stalled", func(f *client2) {
			f.notReading()
			for i := 0; i < 2_000_000 && f.failed == nil; i++ {
				f.did(f.WriteRawFrame(http2.FramePing, 0, 0, make([]byte, 8)))
			}
		}),
		stream("settings", "9113 10.5", "closed or stalled", func(f *client2) {
			f.notReading()
			for i := 0; i < 2_000_000 && f.failed == nil; i++ {
				f.did(f.WriteSettings())
			}
		}),
		stream("priorities", "9113 10.5", "closed", func(f *client2) {
			for i := 0; i < 100_000 && f.failed == nil; i++ {
				f.did(f.WritePriority(1, http2.PriorityParam{StreamDep: 3}))
			}
		}),
		stream("window updates", "9113 10.5", "closed", func(f *client2) {
			for i := 0; i < 100_000 && f.failed == nil; i++ {
				f.did(f.WriteWindowUpdate(0, 1))
			}
		}),
		// As many streams as a connection may have, whose answers may not be sent; and one more.
		stream("streams beyond 100 that take nothing", "9113 10.5", "reset REFUSED_STREAM", func(f *client2) {
			f.did(f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}))
			for i := uint32(3); i < 3+2*100; i += 2 {
				f.open(i, true, request()...)
			}
			f.open(203, true, request()...)
		}).of(203).saw(anything).but("reset REFUSED_STREAM"),
	}
}
