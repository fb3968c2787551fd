use super::*;

fn perform(disk: &RealDisk, kind: DiskOpKind) -> Result<Done, DiskError> {
    disk.perform(DiskOp { token: 1, kind }).result
}

/// The null device takes any write and refuses to be synced, which shows whether a sync reaches the kernel.
#[test]
fn a_log_sync_reaches_the_kernel_and_its_failure_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let _lock = open_dir(dir.path()).unwrap();
    std::os::unix::fs::symlink("/dev/null", segment_path(dir.path(), 1)).unwrap();
    let disk = RealDisk::new(dir.path(), None).unwrap();
    let written = perform(&disk, DiskOpKind::WriteLog { segment: 1, offset: 0, data: vec![1] });
    assert!(matches!(written, Ok(Done::Buffer(_))));
    assert!(matches!(perform(&disk, DiskOpKind::SyncLog { segment: 1 }), Err(DiskError::Failed(_))));
    assert!(matches!(perform(&disk, DiskOpKind::SyncSegment { segment: 1 }), Err(DiskError::Failed(_))));
}

#[test]
fn a_body_sync_reaches_the_kernel_and_its_failure_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let _lock = open_dir(dir.path()).unwrap();
    std::os::unix::fs::symlink("/dev/null", body_path(dir.path(), ItemId(1))).unwrap();
    let disk = RealDisk::new(dir.path(), None).unwrap();
    assert!(matches!(perform(&disk, DiskOpKind::SyncBody { body: ItemId(1) }), Err(DiskError::Failed(_))));
}

/// A directory of procfs has no sync.
#[test]
fn a_directory_sync_reaches_the_kernel_and_its_failure_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    for sub in [LOG_DIR, BODY_DIR] {
        std::os::unix::fs::symlink("/proc/self", dir.path().join(sub)).unwrap();
    }
    let disk = RealDisk::new(dir.path(), None).unwrap();
    assert!(matches!(perform(&disk, DiskOpKind::SyncLogDir), Err(DiskError::Failed(_))));
    assert!(matches!(perform(&disk, DiskOpKind::SyncBodyDir), Err(DiskError::Failed(_))));
}

#[test]
fn a_full_disk_is_told_from_a_broken_one() {
    let dir = tempfile::tempdir().unwrap();
    let _lock = open_dir(dir.path()).unwrap();
    std::os::unix::fs::symlink("/dev/full", segment_path(dir.path(), 1)).unwrap();
    let disk = RealDisk::new(dir.path(), None).unwrap();
    let written = perform(&disk, DiskOpKind::WriteLog { segment: 1, offset: 0, data: vec![1] });
    assert!(matches!(written, Err(DiskError::Full)));
    assert!(matches!(perform(&disk, DiskOpKind::SyncLog { segment: 9 }), Err(DiskError::Failed(_))));
}

#[test]
fn a_new_segment_is_zeros_of_its_full_length() {
    let dir = tempfile::tempdir().unwrap();
    let _lock = open_dir(dir.path()).unwrap();
    let mut disk = RealDisk::new(dir.path(), None).unwrap();
    perform(&disk, DiskOpKind::CreateSegment { segment: 7, bytes: 3 << 19 }).unwrap();
    assert_eq!(disk.segments().unwrap(), [7]);
    assert!(disk.read_segment(7).unwrap() == vec![0; 3 << 19]);
}

#[test]
fn the_segment_being_written_stays_open_whatever_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let _lock = open_dir(dir.path()).unwrap();
    let disk = RealDisk::new(dir.path(), None).unwrap();
    for segment in 0..=OPEN_SEGMENTS_MAX as u32 {
        perform(&disk, DiskOpKind::CreateSegment { segment, bytes: 4096 }).unwrap();
    }
    disk.segments.lock().unwrap().clear();
    perform(&disk, DiskOpKind::WriteLog { segment: 3, offset: 0, data: vec![1] }).unwrap();
    let written = disk.segment(3).unwrap();
    for segment in 0..=OPEN_SEGMENTS_MAX as u32 {
        let read = ReadPart::Log { segment, offset: 0, len: 1 };
        perform(&disk, DiskOpKind::Read(vec![read])).unwrap();
    }
    assert!(Arc::ptr_eq(&written, &disk.segment(3).unwrap()));
    assert!(disk.segments.lock().unwrap().len() <= OPEN_SEGMENTS_MAX);
}
