;; A component that ends with exit code 3, which wasi:cli/exit has told since version 0.2.1.
(component
  (import "wasi:cli/exit@0.2.1" (instance $exit
    (export "exit-with-code" (func (param "status-code" u8)))))
  (core func $exit (canon lower (func $exit "exit-with-code")))
  (core module $program
    (import "exit" "code" (func $exit (param i32)))
    (func (export "run") (result i32)
      i32.const 3
      call $exit
      i32.const 0))
  (core instance $program (instantiate $program (with "exit" (instance (export "code" (func $exit))))))
  (func $run (result (result)) (canon lift (core func $program "run")))
  (instance $out (export "run" (func $run)))
  (export "wasi:cli/run@0.2.1" (instance $out)))
