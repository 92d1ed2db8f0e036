// Protocols of other people's libraries over the sockets, in a module of its
// own so that the libraries never enter the dependencies of those who import
// tapstack.
module github.com/tapstack/tapstack/workloads

go 1.26.3

require (
	github.com/coder/websocket v1.8.15
	github.com/quic-go/quic-go v0.65.0
	github.com/tapstack/tapstack v0.0.0
	golang.org/x/crypto v0.58.0
	golang.org/x/net v0.62.0
	google.golang.org/grpc v1.85.0
)

require (
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260817212433-ac3dfec99bb1 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

replace github.com/tapstack/tapstack => ..
