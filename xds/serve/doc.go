// Package serve brings every connected Envoy to the published resources over delta ADS, in an order that drops no
// request.
//
// # The way of a change
//
// Publish puts resources into the store (store.go), encodes each once (response.go), and drops one pointer into the
// mailbox of every stream. It waits for nobody. Each proxy has one stream (stream.go), whose state belongs to one
// goroutine, the loop; a second goroutine only receives requests. Whatever the loop learns it turns into marks: names to
// look at (subscription.go). After each event it looks at the marked names and at what is published (prepare.go), drops
// those that the proxy has, and sends of the others what may be sent now (order.go).
//
// So there is no queue of messages. A proxy that is slow finds the latest state when it is ready, not every state in
// between, and what it costs is bounded by the number of resources.
//
// # The loop
//
// In the loop one of four things can happen.
//
//   - A request comes. It may answer the response in flight of its type: taken, and the loop notes what the proxy has; or
//     refused, see below. It may subscribe or unsubscribe, whatever it answers. A name that is subscribed is answered,
//     even if the proxy is believed to have the resource, even if there is none.
//   - A change is published. The loop marks its names as far as the proxy wants them.
//   - The deadline passes for which something was held back. It is sent.
//   - The stream ends, because the proxy goes, the server stops, or a request is not from the node that the token proved.
//     Whoever waits for this proxy is told that it is gone.
//
// Of each type one response is in flight at a time; what changes meanwhile stays marked and goes with the next.
//
// # The life of a name
//
// For one proxy and one type a name is in one of these states:
//
//	known    the proxy has what is published, or nothing is to be said
//	dirty    something may have to be sent; from here back to known, or into a response
//	flight   sent, not yet answered; then known, or
//	rejected refused alone; it stays so, without being sent, until its content changes
//
// and it can be dirty and in flight at once, or dirty and awaited: the proxy has not asked for it, but will.
//
// # The order
//
// Marks carry the number of the change that made them, the epoch. What a change sends has a rank: clusters, endpoints and
// secrets provide; routes and listeners refer to them; removals withdraw what nobody refers to any more. Nothing is sent
// before what its change, or an earlier one, has of lower ranks was sent, and a weight, which is endpoints alone, waits for
// nothing.
//
// Sent is mostly enough: Envoy reads a stream in order. What Envoy asks for first is not. A cluster that is new or changed
// warms until it gets endpoints, although they did not change, and Envoy does not ask for those that it has. So what a
// cluster or listener refers to is marked when it is sent, and follows right behind it. If it is a new name, it is awaited:
// it holds back what comes after until the proxy asked for it and it was sent. Nor is it enough where a refusal would leave
// others undone, see addFlight in order.go.
//
// A new listener warms as well, until it has its routes. It is sent together with its cluster, and then the endpoints
// together with the routes: a port is open after two turns.
//
// Removals but of listeners are published Config.Linger later (linger.go): requests that a listener took before it went find
// their cluster.
//
// Every such wait ends after Config.Patience, which is counted. A proxy that does not answer then gets the next rank all
// the same.
//
// # Refusals
//
// Envoy applies a refused response in part, and does not say reliably which resource it means. So the response is halved
// and sent again until what is refused stands alone: ten halvings find one of a thousand. The proxy that refused it keeps
// its last good version, and is sent that one if it needs the resource anew; every other proxy gets the new one. Nothing
// else waits.
//
// # Reconnects
//
// A proxy says in its first requests what it has, and gets the difference. Endpoints it always gets: a cluster may have
// been warming when the connection broke, which no server can know. Before the first Publish nothing is answered at all,
// so a control plane that starts takes nothing away.
//
// # Who may connect
//
// Only delta ADS over TLS 1.3, and only with a token that proves a pod (identity.go, tokenreview.go). The node id must be
// the one that the token proves. Everybody else gets an error and not one message (service.go), and takes nothing from
// others: unknown tokens are reviewed at a rate for each address (source.go), and only who has proved a pod takes a turn.
// What one pod may cost is bounded (limits.go), before its requests are decoded (request.go).
package serve
