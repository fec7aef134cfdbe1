;; Appends a line to the file `starts` in the first directory that lets it, says the same, and stays.
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "starts")
  (data (i32.const 16) "started\0a")
  (data (i32.const 32) "\10\00\00\00\08\00\00\00") ;; what is written: 8 bytes at 16
  (data (i32.const 80) "\01") ;; of the subscription at 64: the monotonic clock
  (data (i32.const 88) "\00\ca\9a\3b") ;; in 1 s
  (func (export "_start") (local $directory i32)
    (local.set $directory (i32.const 3))
    (loop $next
      (if (call $open
            (local.get $directory) (i32.const 0) (i32.const 0) (i32.const 6)
            (i32.const 1) ;; made if need be
            (i64.const 64) (i64.const 0) ;; to be written
            (i32.const 1) ;; at its end
            (i32.const 40))
        (then
          (local.set $directory (i32.add (local.get $directory) (i32.const 1)))
          (br_if $next (i32.lt_u (local.get $directory) (i32.const 16)))
          unreachable)))
    (drop (call $write (i32.load (i32.const 40)) (i32.const 32) (i32.const 1) (i32.const 48)))
    (drop (call $write (i32.const 1) (i32.const 32) (i32.const 1) (i32.const 48)))
    (loop $stay
      (drop (call $poll (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 160)))
      (br $stay))))
