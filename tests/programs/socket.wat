;; A component that asks for a TCP socket. It succeeds if that is refused, as what it may not have.
(component
  (import "wasi:sockets/network@0.2.0" (instance $network
    (type $codes (enum "unknown" "access-denied" "not-supported" "invalid-argument" "out-of-memory" "timeout"
      "concurrency-conflict" "not-in-progress" "would-block" "invalid-state" "new-socket-limit"
      "address-not-bindable" "address-in-use" "remote-unreachable" "connection-refused" "connection-reset"
      "connection-aborted" "datagram-too-large" "name-unresolvable" "temporary-resolver-failure"
      "permanent-resolver-failure"))
    (export "error-code" (type (eq $codes)))
    (type $families (enum "ipv4" "ipv6"))
    (export "ip-address-family" (type (eq $families)))))
  (alias export $network "error-code" (type $code))
  (alias export $network "ip-address-family" (type $family))
  (import "wasi:sockets/tcp@0.2.0" (instance $tcp (export "tcp-socket" (type (sub resource)))))
  (alias export $tcp "tcp-socket" (type $socket))
  (import "wasi:sockets/tcp-create-socket@0.2.0" (instance $create
    (alias outer 1 $family (type $outer-family))
    (export "ip-address-family" (type $family (eq $outer-family)))
    (alias outer 1 $code (type $outer-code))
    (export "error-code" (type $code (eq $outer-code)))
    (alias outer 1 $socket (type $outer-socket))
    (export "tcp-socket" (type $socket (eq $outer-socket)))
    (export "create-tcp-socket" (func
      (param "address-family" $family) (result (result (own $socket) (error $code)))))))
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $create
    (canon lower (func $create "create-tcp-socket") (memory (core memory $memory "memory"))))
  (core module $program
    (import "host" "memory" (memory 1))
    (import "host" "create" (func $create (param i32 i32)))
    (func (export "run") (result i32)
      (call $create (i32.const 0) (i32.const 8))
      ;; at 8 whether it is an error, at 12 which; 1 is access-denied
      (i32.eqz (i32.and (i32.load8_u (i32.const 8)) (i32.eq (i32.load8_u (i32.const 12)) (i32.const 1))))))
  (core instance $program (instantiate $program (with "host" (instance
    (export "memory" (memory $memory "memory"))
    (export "create" (func $create))))))
  (func $run (result (result)) (canon lift (core func $program "run")))
  (instance $out (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $out)))
