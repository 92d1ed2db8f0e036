package workloads

// gRPC: many streams with windows of their own on one connection, over the
// sockets by a dialler and a listener.

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

// calls is the server. What it answers is the noise of the size asked for.
type calls struct {
	pb.UnimplementedTestServiceServer
}

func payload(seed int, n int32) *pb.Payload { return &pb.Payload{Body: noiseBytes(seed, int(n))} }

func (calls) UnaryCall(_ context.Context, r *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	if s := r.GetResponseStatus(); s.GetCode() != 0 {
		return nil, status.Error(codes.Code(s.GetCode()), s.GetMessage())
	}
	n := len(r.GetPayload().GetBody())
	if !bytes.Equal(r.GetPayload().GetBody(), noiseBytes(n, n)) {
		return nil, status.Error(codes.DataLoss, "not what was sent")
	}
	return &pb.SimpleResponse{Payload: payload(1, r.GetResponseSize())}, nil
}

func (calls) StreamingOutputCall(r *pb.StreamingOutputCallRequest, s grpc.ServerStreamingServer[pb.StreamingOutputCallResponse]) error {
	for i, p := range r.GetResponseParameters() {
		if err := s.Send(&pb.StreamingOutputCallResponse{Payload: payload(i, p.GetSize())}); err != nil {
			return err
		}
	}
	return nil
}

func (calls) StreamingInputCall(s grpc.ClientStreamingServer[pb.StreamingInputCallRequest, pb.StreamingInputCallResponse]) error {
	var sum int32
	for i := 0; ; i++ {
		r, err := s.Recv()
		if err == io.EOF {
			return s.SendAndClose(&pb.StreamingInputCallResponse{AggregatedPayloadSize: sum})
		}
		if err != nil {
			return err
		}
		b := r.GetPayload().GetBody()
		if !bytes.Equal(b, noiseBytes(i, len(b))) {
			return status.Errorf(codes.DataLoss, "message %d differs", i)
		}
		sum += int32(len(b))
	}
}

func (calls) FullDuplexCall(s grpc.BidiStreamingServer[pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse]) error {
	for {
		r, err := s.Recv()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = s.Send(&pb.StreamingOutputCallResponse{Payload: r.GetPayload()})
		}
		if err != nil {
			return err
		}
	}
}

func TestGRPC(t *testing.T) {
	each(t, func(t *testing.T, h *hosts) {
		a := newAuthority(t)
		certificate := a.server(h)
		l := h.listen(t, 50051)
		server := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&certificate)))
		pb.RegisterTestServiceServer(server, calls{})
		served := make(chan error, 1)
		go func() { served <- server.Serve(l) }()
		dialer := func(ctx context.Context, address string) (net.Conn, error) {
			return h.client.DialContext(ctx, "tcp", address)
		}
		conn, err := grpc.NewClient("passthrough:///"+h.at(50051), grpc.WithContextDialer(dialer),
			grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(a.pool, "")))
		must(t, err)
		t.Cleanup(func() {
			conn.Close()
			server.GracefulStop()
			join(t, 1, served)
		})
		c := pb.NewTestServiceClient(conn)

		t.Run("unary", func(t *testing.T) {
			const clients = 20
			errs := make(chan error, clients)
			for i := range clients {
				go func() {
					errs <- func() error {
						for k := range h.size(10, 5) {
							n := int32(1 + i*k*997)
							r, err := c.UnaryCall(h.ctx, &pb.SimpleRequest{ResponseSize: 2 * n, Payload: payload(int(n), n)})
							if err != nil {
								return err
							}
							if !bytes.Equal(r.GetPayload().GetBody(), noiseBytes(1, int(2*n))) {
								return fmt.Errorf("%d bytes came, want %d", len(r.GetPayload().GetBody()), 2*n)
							}
						}
						return nil
					}()
				}()
			}
			join(t, clients, errs)
		})
		t.Run("an error", func(t *testing.T) {
			_, err := c.UnaryCall(h.ctx, &pb.SimpleRequest{ResponseStatus: &pb.EchoStatus{Code: int32(codes.Aborted), Message: "enough"}})
			if s, _ := status.FromError(err); s.Code() != codes.Aborted || s.Message() != "enough" {
				t.Errorf("%v", err)
			}
		})
		sizes := make([]int32, h.size(100, 50))
		var total int32
		for i := range sizes {
			sizes[i] = int32(i * 1009)
			total += sizes[i]
		}
		t.Run("stream from the server", func(t *testing.T) {
			r := &pb.StreamingOutputCallRequest{}
			for _, n := range sizes {
				r.ResponseParameters = append(r.ResponseParameters, &pb.ResponseParameters{Size: n})
			}
			s, err := c.StreamingOutputCall(h.ctx, r)
			must(t, err)
			for i, n := range sizes {
				m, err := s.Recv()
				must(t, err)
				if !bytes.Equal(m.GetPayload().GetBody(), noiseBytes(i, int(n))) {
					t.Fatalf("message %d differs", i)
				}
			}
			if _, err := s.Recv(); err != io.EOF {
				t.Errorf("the end: %v", err)
			}
		})
		t.Run("stream to the server", func(t *testing.T) {
			s, err := c.StreamingInputCall(h.ctx)
			must(t, err)
			for i, n := range sizes {
				must(t, s.Send(&pb.StreamingInputCallRequest{Payload: payload(i, n)}))
			}
			r, err := s.CloseAndRecv()
			if err != nil || r.GetAggregatedPayloadSize() != total {
				t.Errorf("%v, %v; want %d", r, err, total)
			}
		})
		t.Run("both", func(t *testing.T) {
			s, err := c.FullDuplexCall(h.ctx)
			must(t, err)
			errs := make(chan error, 1)
			go func() {
				for i, n := range sizes {
					if err := s.Send(&pb.StreamingOutputCallRequest{Payload: payload(i, n)}); err != nil {
						errs <- err
						return
					}
				}
				errs <- s.CloseSend()
			}()
			for i, n := range sizes {
				m, err := s.Recv()
				must(t, err)
				if !bytes.Equal(m.GetPayload().GetBody(), noiseBytes(i, int(n))) {
					t.Fatalf("message %d differs", i)
				}
			}
			join(t, 1, errs)
			if _, err := s.Recv(); err != io.EOF {
				t.Errorf("the end: %v", err)
			}
		})
		t.Run("given up", func(t *testing.T) {
			ctx, cancel := context.WithCancel(h.ctx)
			defer cancel()
			s, err := c.FullDuplexCall(ctx)
			must(t, err)
			must(t, s.Send(&pb.StreamingOutputCallRequest{Payload: payload(1, 10)}))
			_, err = s.Recv()
			must(t, err)
			cancel()
			if _, err := s.Recv(); status.Code(err) != codes.Canceled {
				t.Errorf("%v", err)
			}
		})
	})
}
