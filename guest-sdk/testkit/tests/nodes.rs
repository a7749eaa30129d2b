//! Every kind of node, called as a pack's own tests call it. The nodes are those of `nodes-wasm`; `cargo xtask nodes` builds
//! them. They run in `target/debug/vivarium`; `cargo build` builds it, and `cargo xtask test` does before it runs tests.

use std::{
    path::{Path, PathBuf},
    thread,
};

use serde_json::json;
use vivarium_testkit::{DType, FailureKind, Image, Mask, OutputFolder, Pack, Tensor, Value, use_program};

/// This program is in target/debug/deps.
fn target() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let target = program.ancestors().nth(3).map(PathBuf::from).unwrap_or_default();
    let vivarium = target.join("debug/vivarium");
    assert!(vivarium.is_file(), "{} is missing: build it with `cargo build` first", vivarium.display());
    use_program(vivarium);
    target
}

fn built(path: &str) -> Pack {
    let file = target().join(path);
    assert!(file.is_file(), "{} is missing: run `cargo xtask nodes` first", file.display());
    Pack::from_file(file)
}

fn testing() -> Pack {
    built("test-packs/testing.wasm")
}

fn image() -> Pack {
    built("debug/packs/image.wasm")
}

#[test]
fn numbers_and_pictures_go_in_and_come_out() {
    let empty = image().node("EmptyImage").input("width", 3).input("height", 2).input("color", 0x0080_ff00).run();
    let picture = empty.output(0).image();
    assert_eq!((picture.batch(), picture.width(), picture.height(), picture.channels()), (1, 3, 2, 3));
    let gradient = Image::from_fn(2, 1, |x, _| [x as f32, 0.25, 0.5]);
    let inverted = image().node("ImageInvert").input("image", gradient).run().output(0).image();
    assert_eq!((inverted.pixel(0, 0), inverted.pixel(1, 0)), ([1.0, 0.75, 0.5], [0.0, 0.75, 0.5]));
}

#[test]
fn an_input_that_is_left_out_gets_its_default() {
    assert_eq!(testing().node("TestList").run().output(0).json(), json!([0, 1, 2]));
    let message = testing().node("TestError").fails();
    assert_eq!((message.kind(), message.message()), (FailureKind::Failed, "it went wrong"));
}

#[test]
fn lists_blockers_and_undeclared_inputs() {
    let sum = testing().node("TestListSum").input("values", [1, 2, 3]).run();
    assert_eq!(
        (sum.output(0).integer(), sum.ui()),
        (6, json!({"text": ["6"]}).as_object().cloned().unwrap_or_default())
    );
    let blocker =
        testing().node("TestBlocker").input("input", 1).input("block", true).input("message", "no face").run();
    assert_eq!(blocker.output(0).blocked(), Some(Some("no face")));
    let sum = testing().node("TestVariadic").input("input1", 1.0).input("input2", 2.0).input("other", 3.5).run();
    assert_eq!(sum.output(0).number(), 6.5);
}

#[test]
fn only_the_lazy_inputs_that_a_node_asks_for_reach_it() {
    let mix = |mask: f32| {
        let call = testing().node("TestLazyMix").input("image1", Image::filled(2, 2, [0.0; 3]));
        call.input("image2", Image::filled(2, 2, [1.0; 3])).input("mask", Mask::filled(2, 2, mask)).run()
    };
    assert_eq!(mix(0.0).asked_for(), ["image1"]);
    assert_eq!(mix(1.0).asked_for(), ["image2"]);
    let both = mix(0.25);
    assert_eq!(both.asked_for(), ["image1", "image2"]);
    assert_eq!(both.output(0).image().pixel(1, 1), [0.25; 3]);
}

#[test]
fn an_expansion_shows_its_nodes() {
    let answer = testing().node("TestExpand").input("image", Image::filled(1, 1, [0.5; 3])).run();
    let nodes = answer.expansion();
    assert_eq!(nodes["first"]["class_type"], "ImageInvert");
    assert_eq!(nodes["second"]["inputs"]["image"], json!(["first", 0]));
    assert_eq!(answer.expansion_slots(), [Some(("second".to_owned(), 0))]);
}

#[test]
fn objects_are_handed_on_and_called() {
    let object = testing().node("TestObjectMake").input("start", 40).run().output(0);
    assert_eq!(object.object_type(), "TEST_OBJECT");
    assert_eq!(Pack::call_method(&object, "add", Value::dictionary([("value", 2)])).integer(), 42);
    let called = testing().node("TestObjectCall").input("object", object).input("value", 5).run();
    assert_eq!((called.output(0).integer(), called.output(1).text()), (45, "testing"));
}

#[test]
fn weights_are_read_where_they_are_granted_and_nowhere_else() {
    let numbers = Tensor::new([2, 2], [1.0, 2.0, 3.0, 4.0]);
    let call = |class: &str| {
        let call = testing().node(class).model("vae", "tiny.safetensors", &[("weight", numbers.clone())]);
        call.input("folder", "vae").input("name", "tiny.safetensors").input("key", "weight")
    };
    let refused = call("TestWeights").fails();
    assert_eq!(refused.kind(), FailureKind::PermissionDenied);
    let read = call("TestWeights").grant("models/vae").run();
    read.output(0).tensor().assert_close(&numbers, 0.0);
    let half =
        testing().node("TestWeights").model("vae", "tiny.safetensors", &[("weight", numbers.cast(DType::Float16))]);
    let half = half.input("folder", "vae").input("name", "tiny.safetensors").input("key", "weight");
    assert_eq!(half.grant("models/vae").run().output(0).tensor().dtype(), DType::Float16);
    assert_eq!(call("TestWeightValues").grant("models/vae").fails().kind(), FailureKind::PermissionDenied);
    let text = call("TestWeightValues").grant("models/vae").grant("models/vae/values").run().ui();
    assert_eq!(text["text"], json!(["[1.0, 2.0, 3.0, 4.0]"]));
}

#[test]
fn a_secret_is_lent_and_hidden_in_what_is_shown() {
    let call = || testing().node("TestSecret").input("name", "service-key").secret("service-key", "open sesame");
    assert_eq!(call().fails().kind(), FailureKind::PermissionDenied);
    let answer = call().grant("secret/service-key").run();
    let shown = format!("{:?} {:?}", answer.ui(), answer.log());
    assert!(shown.contains("11 bytes") && !shown.contains("open sesame"), "{shown}");
}

#[test]
#[should_panic(expected = "the pack does not ask for models/loras")]
fn what_a_pack_does_not_ask_for_can_not_be_granted() {
    let _ = testing().node("TestShow").grant("models/loras");
}

#[test]
#[should_panic(expected = "TestShow has no input `valu`; it has value")]
fn a_mistyped_input_is_answered_with_those_there_are() {
    let _ = testing().node("TestShow").input("valu", 1);
}

#[test]
fn progress_previews_and_logs_are_kept() {
    let call = testing().node("TestSleepLoop").input("milliseconds", 5).input("every", 1);
    let answer = call.input("image", Image::filled(4, 4, [1.0, 0.0, 0.0])).run();
    let last = answer.progress().last().cloned();
    let last = last.unwrap_or_else(|| panic!("no progress"));
    assert_eq!((last.value, last.max), (5.0, 5.0));
    assert_eq!(last.preview.map(|preview| preview.pixel(0, 0)), Some([1.0, 0.0, 0.0]));
    assert_eq!(answer.log()[0].message, "busy for 5 ms");
}

#[test]
fn a_node_can_be_interrupted_at_a_point_of_its_progress() {
    let call = testing().node("TestSleepLoop").input("milliseconds", 60_000).input("every", 1);
    let failure = call.interrupt_at(2.0).fails();
    assert_eq!(failure.kind(), FailureKind::Interrupted);
    assert!(!failure.progress().is_empty());
}

#[test]
fn limits_are_those_of_the_test() {
    let picture = || Image::filled(64, 64, [0.5; 3]);
    let failure = image().node("ImageInvert").input("image", picture()).limit("call_tensor_bytes", 100).fails();
    assert_eq!(failure.kind(), FailureKind::OutOfTensorMemory);
    let failure = image().node("ImageInvert").input("image", picture()).limit("handles", 1).fails();
    assert!(failure.message().contains("(handles"), "{failure}");
}

#[test]
#[should_panic(expected = "there is no limit `handels`; there are guest_memory, ")]
fn a_mistyped_limit_is_answered_with_those_there_are() {
    let _ = testing().node("TestList").limit("handels", 1).run();
}

#[test]
#[should_panic(expected = "can't be used: not a valid WebAssembly component")]
fn what_is_no_pack_is_refused_in_words() {
    target();
    let _ = Pack::from_file(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
}

#[test]
fn tests_run_side_by_side() {
    let pack = testing();
    let long = pack.node("TestSleepLoop").input("milliseconds", 3000).input("every", 1);
    let long = thread::spawn(move || long.run());
    let short: Vec<_> = (0..4).map(|_| testing().node("TestList")).collect();
    let short: Vec<_> = short.into_iter().map(|call| thread::spawn(move || call.run().output(0).json())).collect();
    for short in short {
        assert_eq!(short.join().ok(), Some(json!([0, 1, 2])));
    }
    assert!(!long.is_finished(), "the short ones waited for the long one");
    assert!(long.join().is_ok_and(|answer| answer.progress().len() > 100));
}

#[test]
fn elements_of_every_type_are_cast_and_read_as_numbers() {
    target();
    let numbers = Tensor::new([2, 2], [0.0, 1.5, 2.0, 300.0]);
    let cast = |dtype| numbers.cast(dtype).numbers();
    for dtype in [DType::Float32, DType::Float16, DType::Bfloat16] {
        assert_eq!(cast(dtype), [0.0, 1.5, 2.0, 300.0], "{dtype:?}");
    }
    for dtype in [DType::Int32, DType::Int64] {
        assert_eq!(cast(dtype), [0.0, 1.0, 2.0, 300.0], "{dtype:?}");
    }
    assert_eq!(cast(DType::Uint8), [0.0, 1.0, 2.0, 255.0]);
    assert_eq!(cast(DType::Boolean), [0.0, 1.0, 1.0, 1.0]);
    assert_eq!(cast(DType::Float8E4m3), [0.0, 1.5, 2.0, 288.0]);
    assert_eq!(cast(DType::Float8E5m2), [0.0, 1.5, 2.0, 320.0]);
    assert_eq!(numbers.cast(DType::Float16).bytes(), [0, 0, 0, 0x3e, 0, 0x40, 0xb0, 0x5c]);
}

#[test]
fn pictures_come_from_files_of_any_format() {
    target();
    let photo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/workflows/photo-postcard/photo.jpg");
    let photo = Image::open(photo);
    assert!(photo.batch() == 1 && photo.channels() == 3 && photo.width() > 1 && photo.height() > 1);
}

#[test]
fn image_files_are_read_by_name_and_saved_ones_are_kept() {
    let picture = Image::filled(4, 2, [1.0, 0.0, 0.0]);
    let load = || image().node("LoadImage").input("image", "red.png");
    assert_eq!(load().fails().kind(), FailureKind::NotFound);
    let loaded = load().image_file("red.png", &picture).run().output(0).image();
    loaded.tensor().assert_close(picture.tensor(), 0.0);
    let saved = image().node("SaveImage").input("images", picture).input("filename_prefix", "test").run();
    let file = saved.saved().first().cloned().unwrap_or_else(|| panic!("nothing was saved"));
    assert_eq!((file.prefix.as_str(), file.folder), ("test", OutputFolder::Output));
    assert_eq!(file.image().pixel(3, 1), [1.0, 0.0, 0.0]);
}

#[test]
fn validators_and_fingerprints_are_asked() {
    let refused = testing().node("TestError").input("message", "refuse this").validate();
    assert_eq!((refused[0].input.as_deref(), refused[0].message.as_str()), (Some("message"), "refuse this"));
    assert_eq!(testing().node("TestError").validate(), []);
    let always = |flag: bool| testing().node("TestAlways").input("always", flag).fingerprint();
    assert_eq!((always(true), always(false)), (None, Some(json!(null))));
}

#[test]
fn dictionaries_carry_tensors() {
    let latent = Value::latent(Tensor::filled([1, 4, 2, 2], 0.5));
    let shown = testing().node("TestShow").input("value", latent).run().ui();
    assert_eq!(shown["text"], json!(["{\"samples\":\"tensor [1, 4, 2, 2]\"}"]));
    let audio = Value::audio(Tensor::filled([1, 2, 100], 0.0), 44_100);
    assert_eq!(audio.entry("sample_rate").integer(), 44_100);
}

#[test]
fn requests_scratch_files_and_folders_are_made_up_by_the_test() {
    let ask = || {
        let call = testing().node("TestHttp").input("url", "http://127.0.0.1:80/cats").input("method", "POST");
        call.input("body", "how many?").http("http://127.0.0.1:80/cats", 200, "seven")
    };
    assert_eq!(ask().fails().kind(), FailureKind::PermissionDenied);
    let answer = ask().grant("http/127.0.0.1").run();
    assert_eq!(answer.ui()["text"], json!(["200 seven"]));
    assert_eq!(answer.requests()[0].body, b"how many?");

    let count = || testing().node("TestScratch").scratch_file("count", "xx");
    assert_eq!(count().fails().kind(), FailureKind::PermissionDenied);
    let answer = count().grant("scratch").run();
    assert_eq!((answer.ui()["text"].clone(), answer.scratch()["count"].as_slice()), (json!(["count 3"]), &b"xxx"[..]));

    let photos = |path: &str, list: bool| {
        let call = testing().node("TestFolder").input("folder", "photos").input("path", path).input("list", list);
        call.folder_file("photos", "a.txt", "one").folder_file("photos", "more/b.txt", "two").grant("input/photos")
    };
    assert_eq!(photos("", true).run().ui()["text"], json!(["a.txt false 3", "more true 0"]));
    assert_eq!(photos("more/b.txt", false).run().ui()["text"], json!(["two"]));
    assert_eq!(photos("c.txt", false).fails().kind(), FailureKind::NotFound);
}
