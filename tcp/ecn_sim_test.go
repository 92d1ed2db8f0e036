package tcp

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// TestECNSimulation runs transfers over networks that mark, between hosts of all
// kinds, with boxes on the way that do what boxes do to the bits they do not
// know. Where nothing is lost or changed, both ends agree in the end on every
// single mark.
func TestECNSimulation(t *testing.T) {
	boxes := []func(*Segment){
		nil, nil,
		func(s *Segment) { s.Options.AccECN = AccECN{} },
		func(s *Segment) { s.ECN = NotECT },
		func(s *Segment) { s.Flags &^= FlagAE },
		func(s *Segment) { s.Flags &^= ecnBits },
		func(s *Segment) { s.ECN = CE },
		func(s *Segment) { s.Options.AccECN.Bytes = [3]uint32{} },
		func(s *Segment) {
			if s.Flags&FlagSYN == 0 {
				s.Flags &^= ecnBits
			}
		},
	}
	seeds := uint64(200)
	if testing.Short() || raceEnabled {
		seeds = 40
	}
	exact := 0
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := newSim(t, 5000+seed)
			rng := rand.New(rand.NewPCG(seed, 2))
			mark := []float64{0, 0.01, 0.1, 0.5, 1}[rng.IntN(5)]
			box := boxes[rng.IntN(len(boxes))]
			s.noSack = seed%4 == 3
			for i := range s.end {
				s.end[i].cfg.ECN = ECN(rng.IntN(int(numECN)))
				if seed%2 == 0 {
					s.end[i].cfg.ECN = ECNAccurate
				}
			}
			if seed%3 == 0 {
				s.loss, s.dup, s.jitter, box = 0, 0, 0, nil
			}
			var marked [2]uint64
			s.box = func(seg *Segment) {
				if seg.ECN != NotECT && rng.Float64() < mark {
					seg.ECN = CE
					marked[int(seg.SrcPort)-10]++
				}
				if box != nil {
					box(seg)
				}
			}
			s.end[0].c = NewActive(&s.end[0].cfg, s.now)
			both := s.rng.IntN(8) == 0 // then each may have its own opinion, and no ECT
			if both {
				s.end[1].c = NewActive(&s.end[1].cfg, s.now)
				s.flush(1)
			}
			s.flush(0)
			s.run(2 * time.Hour)
			if s.loss > 0 || s.dup > 0 || box != nil || s.jitter > 0 {
				return
			}
			for i := range s.end {
				snd, rcv := s.end[i].c.Info(), s.end[1-i].c.Info()
				if snd.ECN != rcv.ECN && !both {
					t.Errorf("%v and %v agreed on", snd.ECN, rcv.ECN)
				}
				// What the sender itself repeated for nothing may have missed
				// the window.
				if snd.ECN == FeedbackNone || snd.Retransmits > 0 {
					continue
				}
				if rcv.ReceivedCE != marked[i] {
					t.Errorf("%d marks, %d arrived", marked[i], rcv.ReceivedCE)
				}
				if snd.ECN == FeedbackAccurate {
					if a := s.end[1-i].c.ecn.acc; a.noOption {
						// Three bits leave room for doubt.
						if d := int(snd.DeliveredCE - rcv.ReceivedCE); d < 0 || d%8 != 0 {
							t.Errorf("the receiver counted %d marks, the sender %d", rcv.ReceivedCE, snd.DeliveredCE)
						}
						continue
					}
					exact++
					// An ACK from TIME-WAIT, of two segments perhaps, has no option.
					late := int(rcv.ReceivedMarks.CE - snd.DeliveredMarks.CE)
					if snd.DeliveredCE != rcv.ReceivedCE || late < 0 || late > 2*snd.MSS {
						t.Errorf("the receiver counted %d marks, %+v, the sender %d, %+v",
							rcv.ReceivedCE, rcv.ReceivedMarks, snd.DeliveredCE, snd.DeliveredMarks)
					}
				}
			}
		})
	}
	if exact < 5 && seeds > 100 {
		t.Errorf("only %d runs could be compared", exact)
	}
}
