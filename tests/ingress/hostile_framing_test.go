package ingress

// post is the head of a request with a body.
const post = "POST / HTTP/1.1\r\nHost: web\r\n"

// framing is about where a request ends: what two readers take for different lengths hides another request in one.
func framing() []hostile {
	return []hostile{
		{
			name: "CL.TE", rfc: "9112 6.3", want: "400",
			send: post + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
		},
		{
			name: "TE.CL", rfc: "9112 6.3", want: "400", never: "smuggled",
			send: post + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n2d\r\nGET /smuggled HTTP/1.1\r\nHost: web\r\nX: \r\n\r\n0\r\n\r\n",
		},
		// The RFC wants 400 here. Envoy says that it does not know the coding: 501, and closes, too.
		{
			name: "TE.TE chunked is not last", rfc: "9112 6.3", want: "501",
			send: post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
		},
		// As above.
		{
			name: "TE.TE chunked twice", rfc: "9112 6.1", want: "501",
			send: post + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
		},
		{
			name: "TE unknown", rfc: "9112 6.1", want: "501",
			send: post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		},
		{
			name: "TE quoted", rfc: "9112 6.1", want: "501",
			send: post + "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
		},
		{
			name: "TE unknown with CL", rfc: "9112 6.3", want: "400",
			send: post + "Transfer-Encoding: x\r\nContent-Length: 5\r\n\r\nhello",
		},
		{
			name: "TE space before colon", rfc: "9112 5.1", want: "400",
			send: post + "Transfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
		},
		{
			name: "TE vertical tab", rfc: "9110 5.5", want: "400",
			send: post + "Transfer-Encoding:\vchunked\r\n\r\n0\r\n\r\n",
		},
		// Expected: 400. The RFC also allows a space in place of the fold, which is what Envoy does, before it looks at the value.
		{
			name: "TE folded", rfc: "9112 5.2", want: "200 200", never: "\r\n chunked", seen: "public POST /",
			send: post + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
		},
		{
			name: "TE empty", rfc: "9112 6.1", want: "400",
			send: post + "Transfer-Encoding:\r\nContent-Length: 5\r\n\r\nhello",
		},
		{
			name: "TE upper case", rfc: "9112 7", want: "200 200", seen: "public POST / hello",
			send: post + "Transfer-Encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		},
		{
			name: "TE in HTTP 1.0", rfc: "9112 6.1", want: "426",
			send: "POST / HTTP/1.0\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		},
		{
			name: "CL differ", rfc: "9112 6.3", want: "400",
			send: post + "Content-Length: 5\r\nContent-Length: 0\r\n\r\nhello",
		},
		{
			name: "CL twice", rfc: "9110 8.6", want: "400",
			send: post + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
		},
		{
			name: "CL list", rfc: "9110 8.6", want: "400",
			send: post + "Content-Length: 5, 5\r\n\r\nhello",
		},
		{
			name: "CL list differs", rfc: "9112 6.3", want: "400",
			send: post + "Content-Length: 5, 0\r\n\r\nhello",
		},
		{name: "CL plus", rfc: "9110 8.6", want: "400", send: post + "Content-Length: +5\r\n\r\nhello"},
		{name: "CL minus", rfc: "9110 8.6", want: "400", send: post + "Content-Length: -1\r\n\r\n"},
		{name: "CL space within", rfc: "9110 8.6", want: "400", send: post + "Content-Length: 5 0\r\n\r\nhello"},
		{name: "CL hexadecimal", rfc: "9110 8.6", want: "400", send: post + "Content-Length: 0x5\r\n\r\nhello"},
		{name: "CL empty", rfc: "9110 8.6", want: "400", send: post + "Content-Length:\r\n\r\n"},
		{name: "CL beyond 64 bits", rfc: "9112 6.3", want: "400", send: post + "Content-Length: 18446744073709551621\r\n\r\nhello"},
		{
			name: "CL space after", rfc: "9110 5.5", want: "200 200", seen: "public POST / hello",
			send: post + "Content-Length: 5 \t\r\n\r\nhello",
		},
		{name: "CL in another name", rfc: "9112 6.3", want: "400", // "_" for "-": what a server may take for a length
			send: post + "Content_Length: 5\r\n\r\nhello"},
		{
			name: "CL of a GET", rfc: "9110 9.3.1", want: "200 200", seen: "public GET / GET /smuggled HTTP/1.1",
			send: "GET / HTTP/1.1\r\nHost: web\r\nContent-Length: 26\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
		},
		{
			name: "chunk size beyond 64 bits", rfc: "9112 7.1", want: "400",
			send: chunked + "10000000000000005\r\nhello\r\n0\r\n\r\n",
		},
		{name: "chunk size minus", rfc: "9112 7.1", want: "400", send: chunked + "-5\r\nhello\r\n0\r\n\r\n"},
		{name: "chunk size plus", rfc: "9112 7.1", want: "400", send: chunked + "+5\r\nhello\r\n0\r\n\r\n"},
		{name: "chunk size 0x", rfc: "9112 7.1", want: "400", send: chunked + "0x5\r\nhello\r\n0\r\n\r\n"},
		{name: "chunk size empty", rfc: "9112 7.1", want: "400", send: chunked + "\r\nhello\r\n0\r\n\r\n"},
		// Expected: 400, as by the grammar. Envoy reads it, as RFC 7230 parsers did, and writes its own chunks.
		{name: "chunk size space", rfc: "9112 7.1", want: "200 200", never: "5 \r", seen: "public POST / hello", send: chunked + "5 \r\nhello\r\n0\r\n\r\n"},
		{
			name: "chunk extension", rfc: "9112 7.1.1", want: "200 200", seen: "public POST / hello", never: "evil",
			send: chunked + "5;evil=1\r\nhello\r\n0;evil\r\n\r\n",
		},
		{
			name: "chunk extension ended by LF", rfc: "9112 7.1.1", want: "400", never: "smuggled",
			send: chunked + "5;x\nhello\r\n0\r\n\r\n",
		},
		{name: "chunk extension with CR", rfc: "9112 7.1.1", want: "400", send: chunked + "5;x\ry\r\nhello\r\n0\r\n\r\n"},
		{name: "chunk lines ended by LF", rfc: "9112 7.1", want: "400", send: chunked + "5\nhello\n0\n\n"},
		{name: "chunk longer than its size", rfc: "9112 7.1", want: "400", send: chunked + "5\r\nhelloXX0\r\n\r\n"},
		{
			name: "trailers of framing", rfc: "9110 6.5.1", want: "200 200", seen: "public POST / hello", never: "other",
			send: chunked + "5\r\nhello\r\n0\r\nContent-Length: 50\r\nTransfer-Encoding: chunked\r\nHost: other\r\n\r\n",
		},
		{name: "trailer that is none", rfc: "9112 7.1.2", want: "400", send: chunked + "5\r\nhello\r\n0\r\nno colon\r\n\r\n"},
	}
}

const chunked = post + "Transfer-Encoding: chunked\r\n\r\n"

// syntax is about lines and fields that not everybody reads alike, and about fields that concern one connection.
func syntax() []hostile {
	const get = "GET / HTTP/1.1\r\nHost: web\r\n"
	return []hostile{
		{name: "lines ended by LF", rfc: "9112 2.2", want: "200 200", seen: "public GET /", send: "GET / HTTP/1.1\nHost: web\n\n"},
		{name: "empty lines first", rfc: "9112 2.2", want: "200 200", seen: "public GET /", send: "\r\n\r\n" + get + "\r\n"},
		// Expected: 400. The RFC also allows a space in place of the CR.
		{name: "CR in a value", rfc: "9112 2.2", want: "200 200", never: "a\r", seen: "public GET /", send: get + "X: a\rHost: other\r\n\r\n"},
		{name: "NUL in a value", rfc: "9110 5.5", want: "400", send: get + "X: a\x00b\r\n\r\n"},
		{name: "control in a value", rfc: "9110 5.5", want: "400", send: get + "X: a\x01b\r\n\r\n"},
		{name: "NUL in a name", rfc: "9110 5.1", want: "400", send: get + "X\x00: a\r\n\r\n"},
		// Expected: 400. As with the folded Transfer-Encoding.
		{name: "folded value", rfc: "9112 5.2", want: "200 200", never: "\r\n Content", seen: "public GET /", send: get + "X: a\r\n Content-Length: 5\r\n\r\n"},
		{name: "space before the first field", rfc: "9112 2.2", want: "400", send: "GET / HTTP/1.1\r\n Host: other\r\nHost: web\r\n\r\n"},
		{name: "space before colon", rfc: "9112 5.1", want: "400", send: get + "Content-Length : 5\r\n\r\nhello"},
		{name: "name is empty", rfc: "9110 5.1", want: "400", send: get + ": x\r\n\r\n"},
		{name: "name is no token", rfc: "9110 5.6.2", want: "400", send: get + "X(y): 1\r\n\r\n"},
		{name: "name beyond ASCII", rfc: "9110 5.1", want: "400", send: get + "Content-L\u00e9ngth: 5\r\n\r\n"},
		{name: "name of HTTP 2", rfc: "9110 5.1", want: "400", send: get + ":path: /admin\r\n\r\n"},
		{name: "no colon", rfc: "9112 5", want: "400", send: get + "nothing\r\n\r\n"},
		{name: "underscore", rfc: "9110 5.1", want: "400", send: get + "X_Forwarded_For: 10.0.0.1\r\n\r\n"},
		{name: "method is no token", rfc: "9110 9.1", want: "400", send: "G(T / HTTP/1.1\r\nHost: web\r\n\r\n"},
		// The RFC wants 501, and does not insist. Envoy knows a list of methods.
		{name: "method nobody knows", rfc: "9110 9.1", want: "400", send: "SMUGGLE / HTTP/1.1\r\nHost: web\r\n\r\n"},
		// As above.
		{name: "method in lower case", rfc: "9110 9.1", want: "400", send: "get / HTTP/1.1\r\nHost: web\r\n\r\n"},
		{name: "method CONNECT", rfc: "9110 9.3.6", want: "404", send: "CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\n\r\n"},
		// The RFC wants 505, and does not insist. To Envoy it is any version but 1.1.
		{name: "version 2.0", rfc: "9110 15.6.6", want: "426", send: "GET / HTTP/2.0\r\nHost: web\r\n\r\n"},
		{name: "version in lower case", rfc: "9112 2.3", want: "400", send: "GET / http/1.1\r\nHost: web\r\n\r\n"},
		{name: "version of three digits", rfc: "9112 2.3", want: "400", send: "GET / HTTP/1.11\r\nHost: web\r\n\r\n"},
		// Expected: 400. It is the request of HTTP/0.9, so another version.
		{name: "version is missing", rfc: "9112 3", want: "426", send: "GET /\r\nHost: web\r\n\r\n"},
		// Expected: 400. The RFC allows to split at any whitespace; what is sent on has one space.
		{name: "request line with two spaces", rfc: "9112 3", want: "200 200", seen: "public GET /", send: "GET  / HTTP/1.1\r\nHost: web\r\n\r\n"},
		// As above.
		{name: "request line with a tab", rfc: "9112 3", want: "200 200", seen: "public GET /", send: "GET\t/\tHTTP/1.1\r\nHost: web\r\n\r\n"},
		{
			name: "upgrade to h2c", rfc: "9110 7.8", want: "200 200", seen: "public GET /", never: "h2c",
			send: get + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
		},
		{name: "upgrade to what is not served", rfc: "9110 7.8", want: "403", send: get + "Connection: Upgrade\r\nUpgrade: evil\r\n\r\n"},
		// The server does not agree to it: no tunnel, in which nobody would look at what is asked.
		{
			name: "upgrade that is refused", rfc: "9110 7.8", want: "200", seen: "public GET /", never: "smuggled",
			send: get + "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 777\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: web\r\n\r\n",
		},
		// Expected: that it is ignored. The RFC forbids to send it, and Envoy refuses it.
		{name: "Connection lists Host", rfc: "9110 7.6.1", want: "400", send: get + "Connection: Host\r\n\r\n"},
		{
			name: "Connection lists Content-Length", rfc: "9110 7.6.1", want: "200 200", seen: "public POST / hello",
			send: post + "Content-Length: 5\r\nConnection: Content-Length\r\n\r\nhello",
		},
		{
			name: "Connection lists a field of the client", rfc: "9110 7.6.1", want: "200 200", seen: "public GET /", never: "hop-by-hop",
			send: get + "Connection: X-Mine\r\nX-Mine: hop-by-hop\r\n\r\n",
		},
		{
			name: "Expect 100-continue does not wait", rfc: "9110 10.1.1", want: "100 200 200", seen: "public POST / hello",
			send: post + "Content-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
		},
		{name: "Expect what nobody knows", rfc: "9110 10.1.1", want: "200 200", seen: "public GET /", send: get + "Expect: 100-continuE-x\r\n\r\n"},
		{name: "fields beyond 60 KiB", rfc: "9110 5.4", want: "431", send: get + "X: " + long(64<<10) + "\r\n\r\n"},
		{name: "fields beyond 100", rfc: "9110 5.4", want: "431", send: get + lines(101) + "\r\n"},
		{name: "target beyond 60 KiB", rfc: "9112 3", want: "431", send: "GET /" + long(64<<10) + " HTTP/1.1\r\nHost: web\r\n\r\n"},
	}
}
